"""The facts of DVC: what dvc.lock says, and the programs dvc and `./loop` run in a clone."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from loop.core.errors import LoopError, Rejected
from loop.core.names import package, public
from loop.core.paths import cache
from loop.core.text import one_line


class DvcError(LoopError):
    """dvc itself failed; its words are above, on the console."""


@dataclass(frozen=True)
class Lock:
    """dvc.lock's text, asked for what it recorded."""

    stages: dict[str, Any]

    @classmethod
    def parse(cls, text: str) -> "Lock":
        return cls((YAML(typ="safe").load(text) or {}).get("stages", {}))

    @classmethod
    def of(cls, root: Path) -> "Lock":
        path = root / "dvc.lock"
        return cls.parse(path.read_text(encoding="utf-8")) if path.is_file() else cls({})

    def records(self, model: str) -> bool:
        """Whether a training of the model was committed; a fork that never trained has none."""
        return f"train@{package(model)}" in self.stages

    def md5(self, model: str, stage: str, out: str) -> str:
        """The md5 that a stage's output had, by its path below data/<package>/."""
        return str(self._out(model, stage, out)["md5"])

    def model_md5(self, model: str) -> str:
        """The trained model's md5: what a release, a registered model and a cache entry are keyed by."""
        return self.md5(model, "train", "model")

    def model_size(self, model: str) -> int:
        """Bytes of the trained model's folder."""
        return int(self._out(model, "train", "model")["size"])

    def outs(self, model: str) -> dict[str, str]:
        """The md5 of each output that a model's stages have made, by its path."""
        stages = [entry for name, entry in self.stages.items() if name.endswith(f"@{package(model)}")]
        return {str(out["path"]): str(out["md5"]) for entry in stages for out in entry.get("outs", [])}

    def params(self, model: str) -> dict[str, dict[str, Any]]:
        """What params.yaml said when the model's stages ran: {section: its keys}."""
        prefix = f"models.{package(model)}."
        stages = [entry for name, entry in self.stages.items() if name.endswith(f"@{package(model)}")]
        recorded = [entry.get("params", {}).get("params.yaml", {}) for entry in stages]
        return {key.removeprefix(prefix): value for each in recorded for key, value in each.items()}

    def data_md5(self, model: str) -> str:
        """The md5 of the raw rows that it all began with."""
        return self.md5(model, "ingest", "raw.parquet")

    def _out(self, model: str, stage: str, out: str) -> dict[str, Any]:
        name = package(model)
        entry = self.stages.get(f"{stage}@{name}")
        path = f"data/{name}/{out}"
        for recorded in (entry or {}).get("outs", []):
            if recorded["path"] == path:
                return dict(recorded)
        raise LoopError(f"dvc.lock records no {path} of stage {stage}@{name}", fix=f"./loop repro {name}")


def begin(model: str) -> str:
    """The commands that commit a model's first training."""
    return f"./loop train {public(model)} && git add params.yaml dvc.lock data && git commit"


def dvc(root: Path, *args: str, quiet: bool = False) -> str:
    """Run dvc in `root`; returns its output when quiet, else lets it print. DvcError when it fails."""
    share_cache(root)
    forget_the_dead(root)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *args],
        cwd=root,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.PIPE if quiet else None,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DvcError(f"dvc {' '.join(args)} failed in {root}: {(done.stderr or '').strip()}".strip(": "))
    return done.stdout or ""


def forget_the_dead(root: Path) -> None:
    """Drop DVC's read-write lock when nobody in it runs any more, so that a killed run blocks no later one.

    DVC does so for a pid that is gone. It waits for one that is a zombie, or is somebody else by now, and
    gives up on a lock that was being written when its writer was killed.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    if not path.is_file() or _empty(path.read_text(encoding="utf-8")):
        return
    from dvc.lock import make_lock  # here, as it takes a while and is hardly ever needed

    with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):
        pids = re.findall(r'"pid": (\d+)', path.read_text(encoding="utf-8"))
        if not any(_runs(int(pid)) for pid in pids):
            path.unlink()


def _empty(lock: str) -> bool:
    return '"pid"' not in lock and lock.endswith("}}")


def _runs(pid: int) -> bool:
    """Whether a pid is a dvc that is alive."""
    import psutil  # here, because it is hardly ever needed

    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "dvc" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def share_cache(root: Path) -> None:
    """Let all clones on a machine share one DVC cache and run cache, unless config.local says otherwise."""
    local = root / ".dvc" / "config.local"
    if not local.exists():
        local.write_text(f"[cache]\n    dir = {cache() / 'dvc'}\n    type = reflink,hardlink,copy\n")


def objects(root: Path) -> Path:
    """The folder of DVC's cache that holds what outputs are made of, each file by its md5."""
    share_cache(root)
    folder = root / ".dvc"
    return folder / _config(root).get("cache", "dir", fallback="cache") / "files" / "md5"


def made_of(objects: Path, md5: str) -> dict[str, Path]:
    """The files of a cache that make up an output, by md5: for a folder, its list and each file in that list.

    Rejected for a malformed list, or one whose names are not md5s, because such a name could lead out of the
    cache. A file may be missing, but the list must be there.
    """
    files = {md5: _place(objects, md5)}
    if md5.endswith(".dir"):
        try:
            named = [str(entry["md5"]) for entry in json.loads(files[md5].read_text(encoding="utf-8"))]
            odd = next((repr(name) for name in named if not re.fullmatch("[0-9a-f]{32}", name)), "")
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            named, odd = [], repr(error)
        if odd:
            raise Rejected(
                f"{files[md5]} is no folder's list of DVC: {one_line(odd)}",
                fix="see who committed its md5 in dvc.lock; make the output again and commit dvc.lock",
            )
        files |= {name: _place(objects, name) for name in named}
    return files


def altered(files: dict[str, Path]) -> dict[str, str]:
    """The objects whose bytes do not match their md5, with the md5 found. Missing objects are left out."""
    found = {}
    for name, path in files.items():
        if path.is_file() and (content := _hashed(path)) != name.removesuffix(".dir"):
            found[name] = content
    return found


def md5(path: Path) -> str:
    """A file's or folder's md5 as dvc.lock records it."""
    if path.is_file():
        return _hashed(path)
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs import LocalFileSystem
    from dvc_objects.fs.memory import MemoryFileSystem

    nowhere = HashFileDB(MemoryFileSystem(), "/")
    _, _, hashed = build(nowhere, str(path.absolute()), LocalFileSystem(), "md5", dry_run=True)
    return str(hashed.hash_info.value)


def check(root: Path, model: str, *outs: str) -> None:
    """Rejected where an output in data/<package>/ (all, or those named) is not what dvc.lock records.

    DVC itself compares only times and sizes. An output that is missing or not recorded is left out.
    """
    folder = f"data/{package(model)}/"
    for path, recorded in Lock.of(root).outs(model).items():
        if outs and path.removeprefix(folder) not in outs:
            continue
        if (root / path).exists() and (found := md5(root / path)) != recorded:
            raise Rejected(
                f"{root / path}: found md5 {found}, dvc.lock records {recorded}",
                fix=f"rm -r {path} && ./loop repro {public(model)}",
            )


def bring(root: Path, model: str, *outs: str, remote: bool = False) -> None:
    """Put outputs of a model into data/<package>/ from the cache; with `remote`, fetch missing ones first.

    DvcError where an output cannot be found. Rejected where its bytes are not those that dvc.lock records.
    """
    targets = [f"data/{package(model)}/{out}" for out in outs]
    if remote:
        dvc(root, "fetch", *targets, quiet=True)
    _check_cache(root, model, targets)
    dvc(root, "checkout", "--force", *targets, quiet=True)


def checkout(root: Path, model: str) -> None:
    """Bring a model's outputs from the cache into data/<package>/, as dvc.lock records them."""
    _check_cache(root, model)
    dvc(root, "checkout", "--with-deps", *_ends(model))
    check(root, model)


def repro(root: Path, model: str) -> None:
    """Bring every stage of one model up to date, taking from the remote what dvc.lock records.

    Rejected where an output's bytes are not those that dvc.lock records, before any stage reads it. `dvc
    repro --pull` would not do, because it runs stages while it pulls and trusts the remote's run cache.
    """
    pulls = _has_remote(root) and bool(Lock.of(root).outs(model))
    if pulls:
        try:
            dvc(root, "fetch", "--with-deps", *_ends(model), quiet=True)
        except DvcError as error:  # the stages make what is missing in the remote
            click.secho(f"{error}\nThe stages make what the remote did not give.", fg="yellow", err=True)
    _check_cache(root, model)
    if pulls:
        dvc(root, "checkout", "--force", "--allow-missing", "--with-deps", *_ends(model), quiet=True)
    dvc(root, "repro", *_ends(model))
    check(root, model)


def _ends(model: str) -> list[str]:
    """The last stages. With their dependencies they are all stages of a model."""
    return [f"evaluate@{package(model)}", f"validate@{package(model)}"]


def _check_cache(root: Path, model: str, paths: Iterable[str] = ()) -> None:
    """Rejected where the bytes in the cache are not those that dvc.lock records for an output.

    They are removed from the cache, and so is the output in data/, because DVC would go on using both.
    """
    cache, outs = objects(root), Lock.of(root).outs(model)
    found = {path: _altered(cache, outs[path]) for path in paths or outs if path in outs}
    if not (bad := {path: names for path, names in found.items() if names}):
        return
    path, names = next(iter(bad.items()))
    name, content = next(iter(names.items()))
    said = f"{path}{_name_in(cache, outs[path], name)}: found md5 {content}, dvc.lock records {name}"
    for place in [root / path for path in bad]:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    for each in {each for names in bad.values() for each in names}:
        _place(cache, each).unlink()
    raise Rejected(
        f"{said}; somebody changed it in DVC's cache or remote; it was removed from the cache {cache}",
        fix=f"in the DVC remote, if there is one, remove files/md5/{name[:2]}/{name[2:]}; then "
        f"./loop repro {public(model)} && ./loop push {public(model)}",
    )


def _place(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


def _altered(cache: Path, recorded: str) -> dict[str, str]:
    """The wrong objects of an output. A folder's list is read only if its own md5 is right."""
    place = _place(cache, recorded)
    if not place.is_file():
        return {}
    return altered({recorded: place}) or altered(made_of(cache, recorded))


def _name_in(cache: Path, folder: str, name: str) -> str:
    """The name of an object in a folder, as `/meta.json`; empty for the folder's list."""
    if name == folder:
        return ""
    listed = json.loads(_place(cache, folder).read_text(encoding="utf-8"))
    return next(f"/{entry['relpath']}" for entry in listed if entry["md5"] == name)


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def push(root: Path, model: str) -> bool:
    """Keep what a model's stages have made in the remote, so that others can pull it; False without one."""
    if not _has_remote(root):
        return False
    dvc(root, "push", "--with-deps", *_ends(model))
    return True


def _has_remote(root: Path) -> bool:
    """Whether .dvc/config names a remote."""
    return any(section.startswith("'remote") for section in _config(root).sections())


def _config(root: Path) -> ConfigParser:
    """DVC's settings, read as the INI that they are, as asking dvc takes a second."""
    config = ConfigParser(interpolation=None)
    config.read([root / ".dvc" / "config", root / ".dvc" / "config.local"], encoding="utf-8")
    return config
