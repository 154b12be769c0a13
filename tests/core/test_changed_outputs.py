"""A file that was changed in DVC's cache or remote does not become an output of this clone."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from here import dvc_here, dvc_in_here  # noqa: F401 - one is a fixture

from loop.core import dvc
from loop.core.dvc import Lock
from loop.core.errors import Rejected
from loop.core.project import Project

pytestmark = pytest.mark.usefixtures("dvc_here")
OUTS = ("model", "reference.parquet", "validation", "scores.parquet")
STAGES = """
stages:
  train: {foreach: "${models}", do: {deps: [rows], params: [values.yaml: [seed]],
    outs: [data/m/model, data/m/reference.parquet],
    cmd: mkdir -p data/m/model && cp rows data/m/model/meta.json && cp rows data/m/reference.parquet}}
  validate: {foreach: "${models}", do: {deps: [rows], outs: [data/m/validation],
    cmd: cp rows data/m/validation}}
  evaluate: {foreach: "${models}", do: {deps: [data/m/model], outs: [data/m/scores.parquet],
    cmd: cp data/m/model/meta.json data/m/scores.parquet}}
"""


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that has `clone`, whose model is trained, and `remote`, to which it was pushed."""
    folder = tmp_path_factory.mktemp("pushed")
    root = folder / "clone"
    (root / ".dvc").mkdir(parents=True)
    (root / ".dvc/config").write_text(
        "[core]\n    no_scm = true\n    remote = r\n['remote \"r\"']\n    url = ../../remote\n"
    )
    (root / ".dvc/config.local").write_text("[cache]\n    dir = ../../cache\n    type = hardlink\n")
    (root / "dvc.yaml").write_text(STAGES)
    (root / "params.yaml").write_text("models: {m: {}}\n")
    (root / "rows").write_text("rows\n")
    (root / "values.yaml").write_text("seed:\n")
    with dvc_in_here():
        dvc.repro(Project(root, "m"))
        dvc.push(Project(root, "m"))
    return folder


@pytest.fixture
def clone(pushed: Path, tmp_path: Path) -> Path:
    """A clone with only its files in Git, beside a remote with its outputs; no cache, as on a new machine."""
    for name in ("clone", "remote"):
        shutil.copytree(pushed / name, tmp_path / name, ignore=shutil.ignore_patterns("data", "tmp"))
    return tmp_path / "clone"


def place(store: Path, name: str) -> Path:
    """Return the path of an object in a store."""
    return store / "files/md5" / name[:2] / name[2:]


def change(path: Path) -> None:
    """Change a file's bytes, but not its length, time or mode."""
    before, content = path.stat(), path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content.translate(bytes.maketrans(b"mw", b"nv")))
    assert path.read_bytes() != content
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(("where", "what"), [("remote", "file"), ("remote", "list"), ("cache", "file")])
def test_changed_bytes_are_no_output(
    clone: Path, pushed: Path, where: str, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No stage reads a changed file or list: it is reported and moved aside, then fetched or made again."""
    store, folder = clone.parent / where, Lock.of(clone).model_md5("m")
    if where == "cache":
        shutil.copytree(pushed / "cache", store)
    (entry,) = json.loads(place(store, folder).read_text())
    name = folder if what == "list" else entry["md5"]
    change(place(store, name))
    found, recorded = dvc.md5(place(store, name)), Lock.of(clone).stages
    with pytest.raises(Rejected, match=f"moved to .*/rotten/{name}"):
        dvc.bring(Project(clone, "m"), "model", remote=True)
    assert not (clone / "data/m/model").exists()
    shutil.rmtree(clone.parent / "cache/rotten")
    if where == "cache":
        change(place(store, name) if place(store, name).exists() else copy(pushed / "cache", store, name))
    dvc.repro(Project(clone, "m"))
    told = capsys.readouterr().err
    assert f"data/m/model: object {name} of DVC's cache has the md5 {found}; moved to" in told
    remove = f"the DVC remote has the same bytes: remove files/md5/{name[:2]}/{name[2:]} there"
    assert (remove in told) == (where == "remote")
    assert dvc.md5(clone.parent / "cache/rotten" / name) == found
    assert Lock.of(clone).stages == recorded
    dvc.check(Project(clone, "m"), *OUTS)


def copy(store: Path, to: Path, name: str) -> Path:
    """Copy an object from one store to another, and return its new path."""
    return Path(shutil.copy2(place(store, name), place(to, name)))


def test_what_was_changed_and_is_set_aside_is_made_again(clone: Path, pushed: Path) -> None:
    """A changed copy in data/ is removed, too: DVC compares only time and size, and would keep it."""
    shutil.rmtree(clone.parent / "remote")
    for name in ("cache", "clone/data"):
        shutil.copytree(pushed / name, clone.parent / name)
    recorded = Lock.of(clone)
    name = recorded.md5("m", "reference.parquet")
    for path in (place(clone.parent / "cache", name), *(clone / out for out in recorded.outs("m"))):
        if path.is_file() and dvc.md5(path) == name:
            change(path)
    (swept,) = dvc.sweep(clone)
    assert (swept.name, dvc.md5(swept.aside), (clone / swept.path).exists()) == (name, swept.found, False)
    assert dvc.sweep(clone) == []
    dvc.repro(Project(clone, "m"))
    assert Lock.of(clone).stages == recorded.stages
    assert (clone / "data/m/validation").read_text() == "rows\n"


def test_a_model_that_is_up_to_date_needs_no_dvc(
    clone: Path, pushed: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One call of DVC checks all models; an output whose change DVC did not notice is made again."""
    for name in ("cache", "clone/data", "clone/.dvc/tmp"):
        shutil.copytree(pushed / name, clone.parent / name)
    assert dvc.current(clone, ["m", "n"]) == {"m", "n"}
    with monkeypatch.context() as without:
        without.setattr(dvc, "dvc", None)
        dvc.repro(Project(clone, "m"), current=True)
    assert "m: every stage is up to date" in capfd.readouterr().out
    change(clone / "data/m/scores.parquet")
    assert dvc.current(clone, ["m"]) == {"m"}
    dvc.repro(Project(clone, "m"), current=True)
    assert (clone / "data/m/scores.parquet").read_text() == "rows\n"
    (clone / "rows").write_text("other rows\n")
    assert dvc.current(clone, ["m", "n"]) == {"n"}
    (clone / "dvc.yaml").write_text("stages: 1\n")
    assert dvc.current(clone, ["m", "n"]) == set()


def test_a_remote_is_asked_only_for_what_is_missing(
    clone: Path, pushed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all files there, repro works offline; a missing file, in the clone or in the cache, is fetched."""
    for name in ("cache", "clone/data", "clone/.dvc/tmp"):
        shutil.copytree(pushed / name, clone.parent / name)
    called: list[str] = []
    real = dvc.dvc
    monkeypatch.setattr(dvc, "dvc", lambda *args, **more: called.append(args[1]) or real(*args, **more))
    dvc.repro(Project(clone, "m"))
    assert called == ["repro"]
    (clone / "data/m/validation").unlink()
    dvc.repro(Project(clone, "m"))
    place(clone.parent / "cache", Lock.of(clone).md5("m", "scores.parquet")).unlink()
    dvc.repro(Project(clone, "m"))
    assert called[1:] == ["fetch", "checkout", "repro"] * 2


def test_a_remote_that_dvc_cannot_open_stops_no_stage(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the package for a kind of remote, as dvc-ssh, the stages make what could not be fetched."""
    config = clone / ".dvc/config"
    config.write_text(config.read_text().replace("../../remote", "ssh://host.invalid/x"))
    dvc.repro(Project(clone, "m"))
    assert "The stages create the outputs that were not fetched" in capsys.readouterr().err
    dvc.check(Project(clone, "m"), *OUTS)


def test_hashes_are_dvcs(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder has the same md5 as in DVC; a file whose bytes have changed is hashed again."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs import LocalFileSystem, MemoryFileSystem

    folder = clone / "folder"
    for name in ("b/z", 'b/a/é " \\', "a", "b.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"m of {name}")
    (folder / "link").symlink_to("a")
    (folder / "empty").mkdir()
    _, _, found = build(
        HashFileDB(MemoryFileSystem(), "/"), str(folder), LocalFileSystem(), "md5", dry_run=True
    )
    monkeypatch.setattr(dvc, "SETTLED", 0)
    before = dvc.md5(folder)
    assert before == found.hash_info.value
    time.sleep(0.05)  # the clock of a file system may move in steps
    change(folder / "a")
    assert dvc.md5(folder) != before
    with pytest.raises(FileNotFoundError):
        dvc.md5(clone / "nowhere")


def test_a_rotten_object_is_not_pushed(clone: Path, pushed: Path) -> None:
    """The push is rejected, so that the remote has only what dvc.lock records."""
    shutil.copytree(pushed / "cache", clone.parent / "cache")
    change(place(clone.parent / "cache", Lock.of(clone).md5("m", "scores.parquet")))
    with pytest.raises(Rejected, match=r"data/m/.* has the md5"):
        dvc.push(Project(clone, "m"))


def test_a_remotes_run_cache_is_not_believed(clone: Path, pushed: Path) -> None:
    """Whoever may write to the remote could forge a stage's outputs there, so the stage runs anyway."""
    shutil.copytree(pushed / "cache/runs", clone.parent / "remote/runs")
    lock, forged = (
        (clone / "dvc.lock").read_text(),
        hashlib.md5(b"forged\n", usedforsecurity=False).hexdigest(),
    )
    target = place(clone.parent / "remote", forged)
    target.parent.mkdir(parents=True)
    target.write_text("forged\n")
    for run in (run for run in (clone.parent / "remote/runs").rglob("*") if run.is_file()):
        run.chmod(0o644)
        head, outs = run.read_text().split("outs:")
        run.write_text(head + "outs:" + outs.replace(Lock.of(clone).md5("m", "scores.parquet"), forged))
    (clone / "dvc.lock").write_text(lock[: lock.index("  evaluate@m:")])
    dvc.repro(Project(clone, "m"))
    assert (clone / "data/m/scores.parquet").read_text() == "rows\n"


def test_an_output_that_was_changed_since_is_no_candidate(clone: Path) -> None:
    """Files and folders that differ from dvc.lock are rejected before gate, register or monitor read them."""
    (clone / "data/m/model").mkdir(parents=True)
    for name in ("model/meta.json", "reference.parquet"):
        (clone / "data/m" / name).write_text("other\n")
    with pytest.raises(
        Rejected,
        match=r"data/m/model: found md5 .*, dvc\.lock records [\s\S]*dvc checkout --force data/m/model",
    ):
        dvc.check(Project(clone, "m"))
    with pytest.raises(Rejected, match=r"data/m/reference\.parquet: found md5"):
        dvc.check(Project(clone, "m"), "reference.parquet")
    (clone / "data/m/scores.parquet").write_text("rows\n")
    dvc.check(Project(clone, "m"), "scores.parquet")
    (clone / "data/m/scores.parquet").unlink()
    with pytest.raises(Rejected, match=r"scores\.parquet: is missing[\s\S]*dvc checkout"):
        dvc.check(Project(clone, "m"), "scores.parquet")
    with pytest.raises(Rejected, match=r"does not record data/m/plots[\s\S]*\./loop repro m"):
        dvc.check(Project(clone, "m"), "plots")


@pytest.mark.parametrize("named", ["..{kept}", "a", None])
def test_a_folders_list_names_files_of_the_cache_only(clone, tmp_path, named):
    """Anybody may have written a list that dvc.lock records: a path in it is neither read nor removed."""
    kept = tmp_path / "kept"
    kept.write_text("a file beside the clone")
    content = json.dumps([{"relpath": "meta.json", "md5": named and named.format(kept=kept)}]).encode()
    name = f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}.dir"
    there = dvc.objects(clone) / name[:2] / name[2:]
    there.parent.mkdir(parents=True)
    there.write_bytes(content)
    lock = (clone / "dvc.lock").read_text()
    (clone / "dvc.lock").write_text(lock.replace(Lock.parse(lock).model_md5("m"), name))
    with pytest.raises(Rejected, match="is not a valid list of a folder's files"):
        dvc.bring(Project(clone, "m"), "model")
    assert kept.is_file()


def test_dvc_lock_is_written_as_dvc_writes_it(clone: Path) -> None:
    """A release that adds its stages to dvc.lock changes no other line, even one with an empty value."""
    text = (clone / "dvc.lock").read_text()
    assert "seed:\n" in text
    assert Lock.parse(text).text() == text


def test_an_object_that_another_process_moved_aside_is_no_error(
    clone: Path, pushed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If two commands find the same changed object, both report it, and one of them moves it."""
    shutil.copytree(pushed / "cache", clone.parent / "cache")
    name, altered = Lock.of(clone).md5("m", "scores.parquet"), dvc.altered
    change(place(clone.parent / "cache", name))

    def moved(files: dict[str, Path]) -> dict[str, str]:
        found = altered(files)
        for each in found if len(files) > 1 else ():  # the search of the whole cache, not of one list
            files[each].unlink(missing_ok=True)
        return found

    monkeypatch.setattr(dvc, "altered", moved)
    (swept,) = dvc.sweep(clone)
    assert (swept.name, swept.aside.exists()) == (name, False)
