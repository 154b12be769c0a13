"""The records of dvc.lock, and the lock that a killed DVC leaves behind."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from loop.core import dvc
from loop.core.dvc import Lock, check, forget_the_dead
from loop.core.errors import LoopError, Rejected
from loop.core.project import Project
from loop.report import lineage


@pytest.fixture
def child():
    """Return a function that starts a process with `words` in its command line, until the test ends."""
    children = []

    def start(words):
        children.append(
            subprocess.Popen([sys.executable, "-c", f"input()  # {words}"], stdin=subprocess.PIPE)
        )
        return children[-1]

    yield start
    for one in children:
        one.communicate()


@pytest.fixture
def lock(tmp_path):
    """The path of DVC's read-write lock."""
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    return path


def held(*processes):
    who = [{"pid": process.pid, "cmd": "dvc repro"} for process in processes]
    return json.dumps({"read": {"x": who}, "write": {"y": who[0]}})


def test_the_dead_hold_no_lock(tmp_path, lock, child):
    """A lock is removed if its processes are zombies or are no longer DVC."""
    zombie = child("dvc")
    zombie.kill()
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    lock.write_text(held(zombie, child("another program")))
    forget_the_dead(tmp_path)
    assert not lock.exists()


def test_a_running_dvc_keeps_its_lock(tmp_path, lock, child):
    """A lock that a running process holds is not touched."""
    lock.write_text(held(child("dvc"), child("another program")))
    before = lock.read_text()
    forget_the_dead(tmp_path)
    assert lock.read_text() == before


def test_a_half_written_lock_blocks_nobody(tmp_path, lock):
    """A lock that is not JSON, because its writer was killed, is removed before the next run."""
    lock.write_text('{"read": {"data/x.parq')
    forget_the_dead(tmp_path)
    assert not lock.exists()


def test_what_the_lock_file_does_not_record_is_told():
    """An output that dvc.lock does not record is an error with the command that records it."""
    with pytest.raises(LoopError, match=r"does not record data/m/model[\s\S]*\./loop repro m"):
        Lock.parse("stages: {}").model_md5("m")


def test_an_output_at_a_url_has_no_md5(tmp_path):
    """A fork's own stage may write to a bucket, whose etag DVC records; the other outputs are still known."""
    outs = '[{"path": "s3://b/toy.csv", "etag": "0"}, {"path": "data/toy/model", "md5": "a.dir"}]'
    (tmp_path / "dvc.lock").write_text(f'{{"stages": {{"train@toy": {{"outs": {outs}}}}}}}')
    assert Lock.of(tmp_path).outs() == Lock.of(tmp_path).cached("toy") == {"data/toy/model": "a.dir"}
    check(Project(tmp_path, "toy"))
    assert lineage.stages(Lock.of(tmp_path), "toy")[0].names[0] == ("s3://b/toy.csv", "")


MODEL, SCORES = "data/toy/model", "data/toy/scores.parquet"


def stages(model, evaluated):
    """Return a dvc.lock with the md5 of the model that train made, and of the model that evaluate read."""
    train = {"cmd": "x", "outs": [{"path": MODEL, "md5": model}]}
    evaluate = {
        "cmd": "x",
        "deps": [{"path": MODEL, "md5": evaluated}],
        "outs": [{"path": SCORES, "md5": "c"}],
    }
    return json.dumps({"schema": "2.0", "stages": {"train@toy": train, "evaluate@toy": evaluate}})


def test_a_lock_merged_by_pieces_is_refused(tmp_path):
    """With train and evaluate from different branches, a gate would judge a model by another's scores."""
    assert Lock.parse(stages("a.dir", "a.dir")).torn("toy") == ""
    (tmp_path / "dvc.lock").write_text(stages("a.dir", "b.dir"))
    with pytest.raises(
        Rejected, match=rf"evaluate@toy ran with md5 b\.dir of {MODEL}.*recorded md5 is a\.dir"
    ):
        check(Project(tmp_path, "toy"))


def test_of_many_mistakes_ten_are_told():
    """A dvc.lock whose every md5 is wrong is refused in seconds: the line of each mistake takes a parsing."""
    outs = [{"path": f"data/toy/{number}", "md5": "?"} for number in range(300)]
    with pytest.raises(LoopError) as error:
        Lock.parse(json.dumps({"stages": {"train@toy": {"outs": outs}}}))
    assert str(error.value).count("String should match") == 10


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"train@toy": {', '"train@toy": 1, "other@toy": {', r"train@toy: is 1; Input should be a valid"),
        ('"evaluate@toy"', "7", r"7\.\[key\]: is 7; Input should be a valid string"),
        (
            '"md5": "c"',
            '"md5": null',
            r"evaluate@toy\.outs\.0\.md5: is None; Input should be a valid string",
        ),
        ('"md5": "c"', '"size": 1', r"evaluate@toy\.outs\.0: is .*should have the `md5` of data/toy/scores"),
        (
            '"md5": "c"',
            '"md5": "../c"',
            r"evaluate@toy\.outs\.0\.md5: is '\.\./c'; String should match",
        ),
        (
            '"md5": "c"',
            '"md5": "c", "size": "x"',
            r"evaluate@toy\.outs\.0\.size: is 'x'; Input should be a valid integer",
        ),
        (
            '"path": "data/toy/scores.parquet", ',
            "",
            r"evaluate@toy\.outs\.0\.path: is .*; Field required",
        ),
        ('"deps": [', '"deps": 1, "kept": [', r"evaluate@toy\.deps: is 1; Input should be a valid list"),
        (
            '"deps": [',
            '"params": [1], "deps": [',
            r"evaluate@toy\.params: is \[1\]; Input should be a valid dict",
        ),
    ],
)
def test_an_entry_that_dvc_would_not_write_is_named(old, new, said):
    """The error names the entry, with what was found and what was expected."""
    text = stages("a.dir", "a.dir")
    assert old in text
    with pytest.raises(LoopError, match=rf"dvc\.lock: line 1: stages\.{said}"):
        Lock.parse(text.replace(old, new))


def test_a_fork_may_add_stages_of_its_own(tmp_path):
    """A model's stages are all with `foreach: ${models}`; only those that `./loop stage` runs are ours."""
    each = {"foreach": "${models}", "do": {"cmd": "./loop stage train ${key}"}}
    own = {"foreach": "${models}", "do": {"cmd": "python explain.py ${key}"}}
    stages = {"train": each, "explain": own, "once": {"cmd": "true"}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    assert [*dvc.stages(tmp_path)] == ["train", "explain"]
    assert dvc.ours(tmp_path) == ["train"]


@pytest.mark.parametrize(
    "document", ["[]", "stages: []", "stages: {once: {cmd: a}}", "stages: {a: {foreach: '${models}'}}"]
)
def test_a_dvc_yaml_without_stages_is_an_error(tmp_path, document):
    """A dvc.yaml without a stage for each model is named, with where to get it from."""
    (tmp_path / "dvc.yaml").write_text(document)
    with pytest.raises(LoopError, match=r"^dvc\.yaml: stages") as refused:
        dvc.stages(tmp_path)
    assert refused.value.fix


def test_a_push_without_a_default_remote_is_an_error(repository, tmp_path, monkeypatch):
    """Without a default, DVC does not know where to upload; the error names the command that sets it."""
    uploaded = []
    monkeypatch.setattr(dvc, "dvc", lambda _root, *words, **_options: uploaded.append(words))
    config, project = tmp_path / ".dvc/config", Project(tmp_path, "toy")
    config.parent.mkdir()
    shutil.copy(repository / "dvc.yaml", tmp_path)
    assert not dvc.push(project)
    remote = "['remote \"s3store\"']\n    url = s3://bucket/x\n"
    config.write_text(remote)
    with pytest.raises(LoopError, match="no DVC remote is the default") as error:
        dvc.push(project)
    assert error.value.fix.startswith("dvc remote default s3store;")
    config.write_text(f"[core]\n    remote = s3store\n{remote}")
    assert not uploaded
    assert dvc.push(project)
    assert uploaded


def test_lines_keep_their_order_in_a_pipe(tmp_path, capfd, monkeypatch):
    """What a stage prints is not held back in its buffer, and comes after what was printed before DVC."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / ".dvc/config.local").touch()
    (tmp_path / "stage.py").write_text("import os\nprint('second')\nos.write(1, b'third')\n")
    stages = {"ordered": {"cmd": f"{sys.executable} stage.py"}}
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    print("first")
    dvc.dvc(tmp_path, "repro")
    printed = capfd.readouterr().out
    assert printed.index("first") < printed.index("second") < printed.index("third")
