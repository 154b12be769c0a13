"""The facts of DVC: what dvc.lock says, and the programs dvc and `./loop` run in a clone."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click

from loop.core import actions, edited, plain
from loop.core.errors import LoopError, Rejected
from loop.core.names import package, public
from loop.core.paths import cache
from loop.core.repository import masked
from loop.core.text import one_line

LOCK = "dvc.lock"
MERGE = "take one side whole (git checkout HEAD -- dvc.lock), then ./loop repro each model that it changed"
METRICS = "metrics.json"  # the one output that Git keeps, not DVC's cache
STAGES = "take it from the template, or from Git's history"
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
NAME = re.compile(r"[0-9a-zA-Z]+(\.dir)?")  # of an object: no such name leads out of the cache
MISSING = object()  # of a key, as null is a value
SETTLED = (
    2_000_000_000  # nanoseconds: what was written just now may change again within the clock's resolution
)
_HASHES: dict[tuple[int, ...], str] = {}  # by the version of a file


class DvcError(LoopError):
    """dvc itself failed; its words are above, on the console."""


@dataclass(frozen=True)
class Lock:
    """dvc.lock's text, asked for what it recorded."""

    stages: dict[str, Any]

    @classmethod
    def parse(cls, text: str, where: str = LOCK) -> "Lock":
        """The text of a dvc.lock; LoopError names the line of what no DVC has written."""
        return cls(_stages(text, where))

    @classmethod
    def of(cls, root: Path) -> "Lock":
        path = root / LOCK
        return cls.parse(edited.read(path, str(path), MERGE), str(path)) if path.is_file() else cls({})

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
        if "size" not in (out := self._out(model, "train", "model")):
            raise LoopError(f"dvc.lock records no size of {out['path']}", fix=f"./loop repro {public(model)}")
        return int(out["size"])

    def outs(self, model: str) -> dict[str, str]:
        """The md5 of each output that a model's stages have made, by its path."""
        return _md5s(self._entries(model).values())

    def torn(self, model: str) -> str:
        """Describe a stage that ran on another version of its input than dvc.lock records; "" if none did.

        A merge can take some stages from one side and some from the other, without a conflict. DVC would
        notice only when it runs the stage.
        """
        outs = self.outs(model)
        for name, entry in self._entries(model).items():
            for dep in entry.get("deps", []):
                path, md5 = str(dep["path"]), str(dep.get("md5"))
                if outs.get(path, md5) != md5:
                    return f"{LOCK}: {name} had {path} with md5 {md5}, and now it is recorded as {outs[path]}"
        return ""

    def every(self) -> dict[str, str]:
        """The md5 of each output of any model, by its path."""
        return _md5s(self.stages.values())

    def params(self, model: str) -> dict[str, dict[str, Any]]:
        """What params.yaml said when the model's stages ran: {section: its keys}."""
        prefix = f"models.{package(model)}."
        entries = self._entries(model).values()
        recorded = [entry.get("params", {}).get("params.yaml", {}) for entry in entries]
        return {key.removeprefix(prefix): value for each in recorded for key, value in each.items()}

    def data_md5(self, model: str) -> str:
        """The md5 of the raw rows that it all began with."""
        return self.md5(model, "ingest", "raw.parquet")

    def _entries(self, model: str) -> dict[str, dict[str, Any]]:
        """What is recorded of each of a model's stages, by the stage's name."""
        return {name: entry for name, entry in self.stages.items() if name.endswith(f"@{package(model)}")}

    def _out(self, model: str, stage: str, out: str) -> dict[str, Any]:
        name = package(model)
        entry = self.stages.get(f"{stage}@{name}")
        path = f"data/{name}/{out}"
        for recorded in (entry or {}).get("outs", []):
            if recorded["path"] == path:
                return dict(recorded)
        raise LoopError(f"dvc.lock records no {path} of stage {stage}@{name}", fix=f"./loop repro {name}")


def _md5s(entries: Iterable[dict[str, Any]]) -> dict[str, str]:
    """The md5 of each output that these stages have made, by its path."""
    return {str(out["path"]): str(out["md5"]) for entry in entries for out in entry.get("outs", [])}


@lru_cache(maxsize=8)  # a command asks the same text dozens of times, and reading it takes 0.02 s a model
def _stages(text: str, where: str) -> dict[str, Any]:
    """The stages that a dvc.lock records; LoopError names the line of what no DVC has written."""
    document = edited.yaml(text, where, MERGE) or {}
    for keys, expected in _odd(document):
        line = f"line {found}: " if (found := edited.line_of(text, *keys)) else ""
        raise LoopError(f"{where}: {line}{'.'.join(map(str, keys))}: should be {expected}", fix=MERGE)
    return {name: _given(entry) for name, entry in (document.get("stages") or {}).items()}


def _given(entry: dict[str, Any]) -> dict[str, Any]:
    """A stage without nulls: to DVC such a key is not there."""
    given = {key: value for key, value in entry.items() if value is not None}
    if "params" in given:
        given["params"] = {file: section or {} for file, section in given["params"].items()}
    return given


def _odd(document: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """The keys in a dvc.lock whose values are not of the form that DVC writes, and that form."""
    stages = document.get("stages") or {} if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        yield ("stages",), "a section for each stage"
        return
    for name, entry in stages.items():
        if not isinstance(entry, dict):
            yield ("stages", name), "a section with `deps`, `params` and `outs`"
            continue
        files = entry.get("params") or {}
        if not isinstance(files, dict) or not all(isinstance(each or {}, dict) for each in files.values()):
            yield ("stages", name, "params"), "a section for each file, with its keys"
        for part in ("deps", "outs"):
            if not isinstance(listed := entry.get(part) or [], list):
                yield ("stages", name, part), "a list"
                continue
            yield from (
                (("stages", name, part, place), form)
                for place, each in enumerate(listed)
                for form in _form(each)
            )


def _form(entry: Any) -> Iterator[str]:
    """What a file that dvc.lock records should be, where it is not."""
    if not isinstance(entry, dict) or not isinstance(path := entry.get("path"), str):
        yield "a file with its `path`"
    elif "://" in path:
        return  # outside of the clone DVC records an etag
    elif not isinstance(found := entry.get("md5"), str) or not NAME.fullmatch(found):
        yield f"{path} with an `md5` of 32 hexadecimal digits"
    elif not isinstance(entry.get("size", 0), int):
        yield f"{path} with a `size` in bytes"


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
    path.stat()  # what does not exist is no empty folder
    walked = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    listed = {each.relative_to(path).as_posix(): _hashed(each) for each in walked}
    text = json.dumps([{"md5": listed[name], "relpath": name} for name in sorted(listed)])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def check(root: Path, model: str, *outs: str) -> None:
    """Rejected where an output in data/<package>/ (all, or those named) is not what dvc.lock records.

    DVC itself compares only times and sizes. Outputs that are named must be there, and dvc.lock must record
    them; of all outputs, those that are missing are left out. A dvc.lock whose stages do not fit each other
    is rejected, because its metrics could be another model's.
    """
    lock = Lock.of(root)
    if why := lock.torn(model):
        raise Rejected(why, fix=f"./loop repro {public(model)}, and commit dvc.lock")
    recorded = lock.outs(model)
    paths = [f"data/{package(model)}/{out}" for out in outs] or list(recorded)
    stale = {}
    for path in paths:
        if path not in recorded:
            raise Rejected(f"dvc.lock records no {path}", fix=f"./loop repro {public(model)}")
        if (root / path).exists():
            if (found := md5(root / path)) != recorded[path]:
                stale[path] = f"found md5 {found}"
        elif outs:
            stale[path] = "is missing"
    if stale:
        said = [f"{path}: {found}, dvc.lock records {recorded[path]}" for path, found in stale.items()]
        kept = [path for path in stale if not path.endswith(f"/{METRICS}")]
        back = [f"dvc checkout --force {' '.join(kept)}"] if kept else []
        back += [f"git checkout -- {path}" for path in stale if path not in kept]
        raise Rejected(
            "\n".join(said),
            fix=f"where dvc.lock is right, as after `git checkout`: {' && '.join(back)}; "
            f"where it is not, or the cache lacks them: ./loop repro {public(model)}",
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


def repro(root: Path, model: str, *, current: bool = False) -> None:
    """Bring every stage of one model up to date, taking from the remote what dvc.lock records.

    DVC is not started where it has said that the model is `current` and all bytes are as recorded.

    No stage reads an output whose bytes are not those that dvc.lock records: it is named, set aside, and
    fetched again, or made again by its stage. `dvc repro --pull` would not do, because it runs stages while
    it pulls and trusts the remote's run cache.
    """
    check_params(root, model)
    pulls = _has_remote(root) and bool(Lock.of(root).outs(model))
    if pulls and not current:
        _fetch(root, model)
    if bad := _set_aside(root, model):
        _warn(bad, "it is fetched again, or its stage makes it again")
        if pulls:
            _fetch(root, model)
        if pulls and (worse := _set_aside(root, model)):
            there = ", ".join(f"files/md5/{name[:2]}/{name[2:]}" for name in _names(worse))
            _warn(worse, f"the DVC remote has it: remove {there} there, then ./loop push {public(model)}")
    dropped = _drop_altered(root, model)
    if current and not bad and not dropped:
        click.echo(f"{public(model)}: every stage is up to date")
    else:
        if pulls:
            dvc(root, "checkout", "--force", "--allow-missing", "--with-deps", *_ends(model), quiet=True)
        dvc(root, "repro", *_ends(model))
    check(root, model)


def current(root: Path, models: Iterable[str]) -> set[str]:
    """The models of which no stage would run. DVC is asked once, as its start takes longer than the answer.

    Empty where DVC cannot say: then each model's own repro says why.
    """
    try:
        said = dvc(root, "status", "--json", quiet=True)
    except DvcError:
        return set()
    changed = {name.partition("@")[2] for name in json.loads(said)}
    return {model for model in models if package(model) not in changed}


def check_params(root: Path, model: str) -> None:
    """LoopError where params.yaml lacks a key that a stage depends on: DVC wants it despite our default."""
    document = edited.yaml(edited.read(root / "dvc.yaml", "dvc.yaml", STAGES), "dvc.yaml", STAGES)
    stages = document.get("stages") if isinstance(document, dict) else None
    if not isinstance(stages, dict):
        raise LoopError("dvc.yaml: has no `stages:`", fix=STAGES)
    begins = "models.${key}."
    for name, stage in stages.items():
        do = stage.get("do", stage) if isinstance(stage, dict) else None
        listed = do.get("params") or [] if isinstance(do, dict) else None
        if not isinstance(listed, list):
            raise LoopError(
                f"dvc.yaml: stages.{name}: should have a `cmd`, and lists of deps and params", fix=STAGES
            )
        for key in (str(each).removeprefix(begins) for each in listed if str(each).startswith(begins)):
            if _at(plain.read(root).get(package(model)), key, MISSING) is MISSING:
                from loop.core import params  # here, as it imports pydantic

                default = _at(params.load(root, model).model_dump(by_alias=True, mode="json"), key)
                raise LoopError(
                    f"params.yaml: models.{package(model)} lacks {key}, which the stage {name} depends on",
                    fix=f"add it to params.yaml; the default is {json.dumps(default)}",
                )


def _at(node: Any, key: str, missing: Any = None) -> Any:
    """Look up a dotted key in nested dicts; returns `missing` if a part of it is not there."""
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return missing
        node = node[part]
    return node


def _fetch(root: Path, model: str) -> None:
    try:
        dvc(root, "fetch", "--with-deps", *_ends(model), quiet=True)
    except DvcError as error:  # the stages make what is missing in the remote
        click.secho(f"{error}\nThe stages make what the remote did not give.", fg="yellow", err=True)


def _ends(model: str) -> list[str]:
    """The last stages. With their dependencies they are all stages of a model."""
    return [f"evaluate@{package(model)}", f"validate@{package(model)}"]


@dataclass(frozen=True)
class Rotten:
    """An object of DVC's cache whose bytes do not match its name; `path` is an output that it is part of."""

    name: str
    found: str
    aside: Path
    path: str = ""

    def __str__(self) -> str:
        part = self.path or self.name
        return f"{part}: found md5 {self.found}, dvc.lock records {self.name}; moved to {self.aside}"


def sweep(root: Path) -> list[Rotten]:
    """Hash every object in DVC's cache, and set aside those whose bytes do not match their names.

    An output in data/ that any model's stages made of one goes too, because DVC would go on using it.
    """
    cache, lock = objects(root), Lock.of(root)
    used = {name: path for path, output in lock.every().items() for name in _parts(cache, output)}
    there = {path.parent.name + path.name: path for path in cache.glob("[0-9a-f][0-9a-f]/*")}
    files = {name: path for name, path in there.items() if MD5.fullmatch(name)}
    bad = [_aside(root, name, found, used.get(name, "")) for name, found in altered(files).items()]
    for path in (each.path for each in bad if each.path):
        _remove(root / path)
    return bad


def _check_cache(root: Path, model: str, paths: Iterable[str] = ()) -> None:
    """Rejected where the bytes in the cache are not those that dvc.lock records for an output.

    They are set aside, so the next command fetches them again or makes them again.
    """
    if bad := _set_aside(root, model, paths):
        remote = " ".join(f"files/md5/{name[:2]}/{name[2:]}" for name in _names(bad))
        raise Rejected(
            "\n".join(map(str, bad)),
            fix=f"./loop repro {public(model)}; if the DVC remote has the same bytes, remove {remote} there, "
            f"then ./loop push {public(model)}",
        )


def _set_aside(root: Path, model: str, paths: Iterable[str] = ()) -> list[Rotten]:
    """Take out of the cache, and out of data/, what dvc.lock does not record; returns each such object."""
    cache, outs = objects(root), Lock.of(root).outs(model)
    bad = []
    for path in paths or outs:
        for name, found in _altered(cache, outs[path]).items() if path in outs else ():
            part = f"{path}{_name_in(cache, outs[path], name)}"
            bad.append(_aside(root, name, found, part))
            _remove(root / path)
    return bad


def _aside(root: Path, name: str, found: str, path: str) -> Rotten:
    place, cache = _place(objects(root), name), objects(root)
    aside = cache.parents[1] / "rotten" / name
    aside.parent.mkdir(exist_ok=True)
    if place.is_file():  # outputs may share an object
        place.replace(aside)
    return Rotten(name, found, aside, path)


def _drop_altered(root: Path, model: str) -> list[str]:
    """Remove outputs in data/ that dvc.lock does not record: DVC could take them for those it made."""
    outs = Lock.of(root).outs(model).items()
    kept = {path: recorded for path, recorded in outs if not path.endswith(f"/{METRICS}")}
    bad = [path for path, md5_ in kept.items() if (root / path).exists() and md5(root / path) != md5_]
    for path in bad:
        _remove(root / path)
    return bad


def _remove(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)


def _warn(bad: list[Rotten], then: str) -> None:
    """Name each object on the console, and at the workflow's run."""
    for each in bad:
        actions.warning("Changed outputs", f"{each}; {then}")


def _names(bad: list[Rotten]) -> list[str]:
    return sorted({each.name for each in bad})


def _place(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


def _parts(cache: Path, recorded: str) -> Iterable[str]:
    """The objects that an output is made of; of a folder whose list is missing or rotten, the list alone."""
    place = _place(cache, recorded)
    return made_of(cache, recorded) if place.is_file() and not altered({recorded: place}) else [recorded]


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
    """The md5 of a file's bytes. They are read once, as whatever changes them moves the file's ctime."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        version = (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
        if version not in _HASHES:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if time.time_ns() - found.st_ctime_ns < SETTLED:
                return digest
            _HASHES[version] = digest
        return _HASHES[version]


def push(root: Path, model: str) -> bool:
    """Keep what a model's stages have made in the remote, so that others can pull it; False without one."""
    if not _has_remote(root):
        return False
    _check_cache(root, model)
    try:
        dvc(root, "push", "--with-deps", *_ends(model))
    except DvcError as error:
        raise DvcError(
            f"the DVC remote {_remote(root)} did not take everything; dvc's reason is above",
            fix=f"see that it answers, has room, and lets this key write; then ./loop push {public(model)}",
        ) from error
    return True


def _has_remote(root: Path) -> bool:
    """Whether .dvc/config names a remote."""
    return any(section.startswith("'remote") for section in _config(root).sections())


def _remote(root: Path) -> str:
    """The URL of the default remote, without what may be a password."""
    config = _config(root)
    name = config.get("core", "remote", fallback="")
    return masked(config.get(f"'remote \"{name}\"'", "url", fallback=name))


def _config(root: Path) -> ConfigParser:
    """DVC's settings, read as the INI that they are, as asking dvc takes a second."""
    config = ConfigParser(interpolation=None)
    for name in (".dvc/config", ".dvc/config.local"):
        if (path := root / name).is_file():
            text = edited.read(path, str(path), STAGES)
            edited.merged(text, str(path), "keep one side of each conflict")
            try:
                config.read_string(text, str(path))
            except ConfigError as error:
                raise LoopError(one_line(error), fix=f"correct that line of {name}") from error
    return config
