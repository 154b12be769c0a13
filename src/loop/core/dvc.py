"""Reads and checks dvc.lock, checks DVC's cache, and runs dvc in a clone."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from configparser import ConfigParser
from configparser import Error as ConfigError
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

import click
from pydantic import BaseModel, Field, RootModel, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML

from loop.core import actions, edited, params, plain
from loop.core.errors import LoopError, Rejected
from loop.core.names import package, public
from loop.core.paths import cache
from loop.core.project import Project
from loop.core.repository import masked
from loop.core.text import one_line

LOCK = "dvc.lock"
REPRO = "run ./loop repro for each model that changed"
MERGE = f"take all of one side (git checkout HEAD -- dvc.lock), then {REPRO}"
METRICS = "metrics.json"  # the only stage output that Git tracks and that is not in DVC's cache
STAGES = "take it from the template, or from Git's history"
OURS = "./loop stage "  # how the command of a stage begins whose code is in loop.pipeline
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
# Nanoseconds after which a file's hash may be cached. A file written more recently may change again
# without a change of its ctime, because the clock's resolution is limited.
SETTLED = 2_000_000_000
_HASHES: dict[tuple[int, ...], str] = {}  # MD5 by a file's device, inode, size and ctime


class DvcError(LoopError):
    """dvc itself failed; its output is on the console above."""


class _File(BaseModel):
    """An input or output of a stage in dvc.lock. The md5 cannot be a path that leads out of DVC's cache."""

    path: str
    md5: str = Field("", pattern=r"^[0-9a-zA-Z]+(\.dir)?$")
    size: int = 0

    @model_validator(mode="after")
    def _hashed(self) -> "_File":
        if not self.md5 and "://" not in self.path:  # DVC records an etag of a file outside the clone
            raise ValueError(f"should have the `md5` of {self.path}")
        return self


class _Stage(BaseModel):
    """The record of a stage in dvc.lock, as far as it is read here."""

    deps: list[_File] = []
    outs: list[_File] = []
    params: dict[str, dict[str, Any]] = {}  # the values of each file


class _Listed(BaseModel):
    """A file in DVC's list of a folder. Its md5 cannot be a path that leads out of DVC's cache."""

    md5: str = Field(pattern="^[0-9a-f]{32}$")


@dataclass(frozen=True)
class Lock:
    """The stages that dvc.lock records, with their inputs, params and outputs."""

    stages: dict[str, Any]

    @classmethod
    def parse(cls, text: str, where: str = LOCK) -> "Lock":
        """Parse a dvc.lock's text. Raises LoopError with the line of anything that DVC would not write."""
        return cls(_stages(text, where))

    @classmethod
    def of(cls, root: Path) -> "Lock":
        """Read dvc.lock in `root`; empty if the file does not exist. Raises LoopError if it is invalid."""
        path = root / LOCK
        if not path.is_file():
            return cls({})
        return cls.parse(edited.read(path, str(path), MERGE, REPRO), str(path))

    def text(self) -> str:
        """Return the text of dvc.lock, byte for byte as DVC writes it."""
        text = StringIO()
        YAML().dump({"schema": "2.0", "stages": self.stages}, text)
        return text.getvalue()

    def records(self, model: str) -> bool:
        """Whether dvc.lock records a training of the model."""
        return f"train@{package(model)}" in self.stages

    def entries(self, model: str) -> dict[str, dict[str, Any]]:
        """Return {stage's name, as train@churn: its record} for a model's stages."""
        return {name: entry for name, entry in self.stages.items() if name.endswith(f"@{package(model)}")}

    def md5(self, model: str, out: str) -> str:
        """Return the md5 of a stage's output data/<package>/<out>. Raises LoopError if it is not recorded."""
        path = f"data/{package(model)}/{out}"
        if not (found := self.outs(model).get(path)):
            raise LoopError(f"dvc.lock does not record {path} with its md5", fix=f"./loop repro {model}")
        return found

    def model_md5(self, model: str) -> str:
        """Return the trained model's md5, which identifies it in releases, model registry and caches."""
        return self.md5(model, "model")

    def model_size(self, model: str) -> int | None:
        """Return the size of the trained model's folder in bytes; None if it is not recorded."""
        outs = self.stages.get(f"train@{package(model)}", {}).get("outs", [])
        return next((out.get("size") for out in outs if out["path"].endswith("/model")), None)

    def outs(self, model: str | None = None) -> dict[str, str]:
        """Return {path: md5} of a model's recorded outputs, or of all models'; those at a URL have no md5."""
        entries = self.entries(model).values() if model else self.stages.values()
        outs = (out for entry in entries for out in entry.get("outs", []) if "md5" in out)
        return {str(out["path"]): str(out["md5"]) for out in outs}

    def cached(self, model: str) -> dict[str, str]:
        """Return {path: md5} of a model's outputs in DVC's cache: all but metrics.json, which Git tracks."""
        return {path: md5 for path, md5 in self.outs(model).items() if not path.endswith(f"/{METRICS}")}

    def torn(self, model: str) -> str:
        """Return an error message if a stage's input has another md5 than dvc.lock records, otherwise "".

        A merge without conflicts can mix stages of both sides, which DVC detects only when it runs them.
        """
        outs = self.outs(model)
        for name, entry in self.entries(model).items():
            for dep in entry.get("deps", []):
                path, md5 = str(dep["path"]), str(dep.get("md5"))
                if outs.get(path, md5) != md5:
                    ran = f"{LOCK}: {name} ran with md5 {md5} of {path}"
                    return f"{ran}, but the recorded md5 is {outs[path]}"
        return ""

    def params(self, model: str) -> dict[str, dict[str, Any]]:
        """Return {section: values} of params.yaml as recorded when the model's stages ran."""
        prefix = f"models.{package(model)}."
        entries = self.entries(model).values()
        recorded = [entry.get("params", {}).get("params.yaml", {}) for entry in entries]
        return {key.removeprefix(prefix): value for each in recorded for key, value in each.items()}


# Cached, because a command parses the same dvc.lock dozens of times, at 0.02 s per model.
@lru_cache(maxsize=8)
def _stages(text: str, where: str) -> dict[str, Any]:
    """Return the stages that a dvc.lock's text records, after a check of their form."""
    document = edited.yaml(text, where, MERGE) or {}
    stages = document.get("stages", {}) if isinstance(document, dict) else document
    params.parse(RootModel[dict[str, _Stage]], stages, f"{where}: stages", text, MERGE)
    return dict(stages)


def begin(model: str) -> str:
    """Return the commands that train a model for the first time and commit the result."""
    return f"./loop train {public(model)} && git add params.yaml dvc.lock data && git commit"


def dvc(root: Path, *args: str, quiet: bool = False) -> str:
    """Run dvc in `root`. Returns its output if `quiet`, otherwise prints it. Raises DvcError if dvc fails."""
    share_cache(root)
    forget_the_dead(root)
    words, env = [sys.executable, "-m", "dvc", *args], {**os.environ, "DVC_NO_ANALYTICS": "1"}
    env["PYTHONUNBUFFERED"] = "1"  # so that in a pipe the lines of DVC and of its stages keep their order
    sys.stdout.flush()
    to = subprocess.PIPE if quiet else None
    done = subprocess.run(words, cwd=root, env=env, stdout=to, stderr=to, text=True, check=False)
    if done.returncode:
        raise DvcError(f"dvc {' '.join(args)} failed in {root}: {(done.stderr or '').strip()}".strip(": "))
    return done.stdout or ""


def forget_the_dead(root: Path) -> None:
    """Remove DVC's read-write lock file if no running dvc holds it.

    Otherwise a killed dvc could block later commands. DVC itself ignores a lock only if the process id no
    longer exists. It waits if that process is a zombie or the id belongs to another program now, and fails if
    the file is incomplete because its writer was killed.
    """
    path = root / ".dvc" / "tmp" / "rwlock"
    text = path.read_text(encoding="utf-8") if path.is_file() else "{{}}"
    if '"pid"' not in text and text.endswith("}}"):  # nobody holds it
        return
    import psutil  # imported here, as the next line is, because they are slow and rarely needed
    from dvc.lock import make_lock

    with make_lock(f"{path}.lock", tmp_dir=str(path.parent)):
        pids = set(map(int, re.findall(r'"pid": (\d+)', path.read_text(encoding="utf-8"))))
        running = psutil.process_iter(["pid", "cmdline"])  # a zombie has no command line
        if not any(each.pid in pids and "dvc" in " ".join(each.info["cmdline"] or []) for each in running):
            path.unlink()


def share_cache(root: Path) -> None:
    """Make all clones on this machine share one DVC cache and run cache, unless .dvc/config.local exists."""
    local = root / ".dvc" / "config.local"
    if not local.exists():
        local.write_text(f"[cache]\n    dir = {cache() / 'dvc'}\n    type = reflink,hardlink,copy\n")


def objects(root: Path) -> Path:
    """Return the folder of DVC's cache that stores file contents by md5."""
    share_cache(root)
    return root / ".dvc" / _config(root).get("cache", "dir", fallback="cache") / "files" / "md5"


def made_of(objects: Path, md5: str) -> dict[str, Path]:
    """Return {md5: path in the cache} of the files that make up an output.

    For a folder, these are DVC's list of it and each file in the list, unless the list is missing or its
    bytes do not match its name. A listed file may be missing, too. Raises Rejected if the list is malformed.
    """
    files = {md5: _place(objects, md5)}
    if md5.endswith(".dir") and files[md5].is_file() and not altered(files):
        try:
            listed = TypeAdapter(list[_Listed]).validate_json(files[md5].read_bytes())
        except ValidationError as error:
            raise Rejected(
                f"{files[md5]} is not a valid list of a folder's files: {one_line(error)}",
                fix="check who committed its md5 in dvc.lock; create the output again and commit dvc.lock",
            ) from error
        files |= {each.md5: _place(objects, each.md5) for each in listed}
    return files


def altered(files: dict[str, Path]) -> dict[str, str]:
    """Return {name: md5 found} of the cached objects that exist and whose bytes do not match their names."""
    found = {name: _hashed(path) for name, path in files.items() if path.is_file()}
    return {name: content for name, content in found.items() if content != name.removesuffix(".dir")}


def md5(path: Path) -> str:
    """Return the md5 of a file or folder as dvc.lock records it. Raises FileNotFoundError without it."""
    if path.is_file():
        return _hashed(path)
    # stat raises FileNotFoundError for a missing path, which would otherwise look like an empty folder
    path.stat()
    walked = [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    listed = {each.relative_to(path).as_posix(): _hashed(each) for each in walked}
    text = json.dumps([{"md5": listed[name], "relpath": name} for name in sorted(listed)])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest() + ".dir"


def check(project: Project, *outs: str) -> None:
    """Raise Rejected if outputs in data/<package>/ differ from what dvc.lock records.

    Outputs given by name must exist and be recorded. Without names, all recorded outputs that exist are
    checked. Files are hashed, because DVC itself compares only times and sizes. Rejected is also raised if
    the stages in dvc.lock do not match each other, because its metrics could belong to another model.
    """
    lock = Lock.of(project.root)
    if why := lock.torn(project.model):
        raise Rejected(why, fix=f"./loop repro {project.public}, then commit dvc.lock")
    recorded = lock.outs(project.model)
    paths = [f"data/{project.package}/{out}" for out in outs]
    if unknown := [path for path in paths if path not in recorded]:
        raise Rejected(f"dvc.lock does not record {', '.join(unknown)}", fix=f"./loop repro {project.public}")
    changed = _changed(project.root, {path: recorded[path] for path in paths or recorded})
    stale = {path: f"found md5 {found}" for path, found in changed.items()}
    stale |= {path: "is missing" for path in paths if not (project.root / path).exists()}
    if stale:
        said = [f"{path}: {found}, dvc.lock records {recorded[path]}" for path, found in stale.items()]
        kept = [path for path in stale if not path.endswith(f"/{METRICS}")]
        back = [f"dvc checkout --force {' '.join(kept)}"] if kept else []
        back += [f"git checkout -- {path}" for path in stale if path not in kept]
        raise Rejected(
            "\n".join(said),
            fix=f"if dvc.lock is right, as after `git checkout`: {' && '.join(back)}; "
            f"otherwise, or if the cache lacks these files: ./loop repro {project.public}",
        )


def _changed(root: Path, outs: dict[str, str]) -> dict[str, str]:
    """Return {path: md5 found} of the outputs {path: md5 recorded} that exist and differ."""
    found = {path: md5(root / path) for path in outs if (root / path).exists()}
    return {path: content for path, content in found.items() if content != outs[path]}


def bring(project: Project, *outs: str, remote: bool = False) -> None:
    """Copy outputs of a model from DVC's cache to data/<package>/.

    With `remote`, outputs that the cache lacks are fetched from the DVC remote first. Raises DvcError if an
    output is not found, and Rejected if the cached bytes differ from what dvc.lock records.
    """
    targets = [f"data/{project.package}/{out}" for out in outs]
    if remote:
        dvc(project.root, "fetch", *targets, quiet=True)
    _check_cache(project, targets)
    dvc(project.root, "checkout", "--force", *targets, quiet=True)


def checkout(project: Project) -> None:
    """Copy a model's outputs from DVC's cache to data/. Raises Rejected if they differ from dvc.lock."""
    _check_cache(project)
    dvc(project.root, "checkout", "--with-deps", *_every(project))
    check(project)


def repro(project: Project, *, current: bool = False) -> None:
    """Run the stages of a model that are not up to date, and take recorded outputs from the DVC remote.

    The remote is not asked if nothing is missing. `current` means that DVC reported no stage to run; then DVC
    is started only if an output is missing or its bytes differ from dvc.lock. No stage reads an output whose
    bytes differ: the output is moved aside, and then fetched again or created again by its stage. `dvc repro
    --pull` is not used, because it runs stages while it pulls and trusts the remote's run cache.
    """
    root, kept, every = project.root, Lock.of(project.root).cached(project.model), _every(project)
    _warn(_set_aside(project), "it is fetched again, or its stage creates it again")
    for path in _changed(root, kept):
        _remove(root / path)  # because DVC could take it for its own
    complete = _complete(project, kept)
    if not complete and kept and _remotes(root):
        try:
            dvc(root, "fetch", "--with-deps", *every, quiet=True)
        except DvcError as error:
            said = f"{error}\nThe stages create the outputs that were not fetched."
            click.secho(said, fg="yellow", err=True)
        bad = _set_aside(project)
        there = ", ".join(f"files/md5/{each.name[:2]}/{each.name[2:]}" for each in bad)
        then = f"remove {there} there, then ./loop push {project.public}"
        _warn(bad, f"the DVC remote has the same bytes: {then}")
        with suppress(DvcError):  # it fails if DVC lacks the package for this kind of remote
            dvc(root, "checkout", "--force", "--allow-missing", "--with-deps", *every, quiet=True)
    if current and complete:
        click.echo(f"{project.public}: every stage is up to date")
    else:
        dvc(root, "repro", *every)
    check(project)


def current(root: Path, models: Iterable[str]) -> set[str]:
    """Return the models with no stage to run; none if DVC fails, as each model's repro reports the error."""
    try:  # one call for all models, because starting DVC takes longer than the check
        said = dvc(root, "status", "--json", quiet=True)
    except DvcError:
        return set()
    changed = {name.partition("@")[2] for name in json.loads(said)}
    return {model for model in models if package(model) not in changed}


def stages(root: Path) -> dict[str, dict[str, Any]]:
    """Return the stages of dvc.yaml that each model has, {name: what it does}, in the file's order.

    Raises LoopError if dvc.yaml cannot be read or has no such stage.
    """
    document = edited.yaml(edited.read(root / "dvc.yaml", "dvc.yaml", STAGES), "dvc.yaml", STAGES)
    found = plain.at(document, "stages")
    stages = found.items() if isinstance(found, dict) else ()
    every = {
        name: plain.at(stage, "do") for name, stage in stages if plain.at(stage, "foreach") == "${models}"
    }
    if not every or not all(isinstance(does, dict) for does in every.values()):
        said = "should have stages with `foreach: ${models}`, and a section `do` in each of them"
        raise LoopError(f"dvc.yaml: stages: {said}", fix=STAGES)
    return every


def ours(root: Path) -> list[str]:
    """Return the names of the stages of dvc.yaml whose code is the module of that name in loop.pipeline."""
    return [name for name, does in stages(root).items() if str(does.get("cmd")).startswith(f"{OURS}{name} ")]


def _complete(project: Project, kept: dict[str, str]) -> bool:
    """Whether all recorded files are in the clone, and the outputs `kept` {path: md5} also in DVC's cache."""
    cache, entries = objects(project.root), Lock.of(project.root).entries(project.model).values()
    cached = all(_place(cache, name).is_file() for name in _used(cache, kept))
    files = (file["path"] for entry in entries for part in ("deps", "outs") for file in entry.get(part, []))
    return cached and all("://" in path or (project.root / path).exists() for path in files)


def _every(project: Project) -> list[str]:
    """Return DVC's names of a model's stages."""
    return [f"{name}@{project.package}" for name in stages(project.root)]


@dataclass(frozen=True)
class Rotten:
    """An object of DVC's cache whose bytes do not match its name."""

    name: str
    found: str
    aside: Path  # where the object was moved
    path: str  # an output that contains the object, or ""

    def __str__(self) -> str:
        what = f"object {self.name} of DVC's cache has the md5 {self.found}; moved to {self.aside}"
        return f"{self.path}: {what}" if self.path else what


def sweep(root: Path) -> list[Rotten]:
    """Hash every object in DVC's cache and move aside all objects whose bytes do not match their names."""
    cache = objects(root)
    there = (path.parent.name + path.name for path in cache.glob("[0-9a-f][0-9a-f]/*"))
    unused = {name: "" for name in there if MD5.fullmatch(name)}
    return _move_altered(root, unused | _used(cache, Lock.of(root).outs()))


def _check_cache(project: Project, paths: Iterable[str] = ()) -> None:
    """Raise Rejected if cached bytes of an output differ from dvc.lock. They are moved aside first."""
    if bad := _set_aside(project, paths):
        raise Rejected("\n".join(map(str, bad)), fix=f"./loop repro {project.public}")


def _set_aside(project: Project, paths: Iterable[str] = ()) -> list[Rotten]:
    """Move a model's cached objects that differ from dvc.lock aside, by default those of all its outputs."""
    outs = Lock.of(project.root).outs(project.model)
    wanted = {path: outs[path] for path in paths or outs if path in outs}
    return _move_altered(project.root, _used(objects(project.root), wanted))


def _used(cache: Path, outs: dict[str, str]) -> dict[str, str]:
    """Return {object: first output that contains it} for the outputs {path: md5}."""
    used: dict[str, str] = {}
    for path, recorded in outs.items():
        used = dict.fromkeys(made_of(cache, recorded), path) | used
    return used


def _move_altered(root: Path, used: dict[str, str]) -> list[Rotten]:
    """Move aside the objects whose bytes do not match their names; returns them.

    `used` is {object: output that contains it, or ""}. These outputs are removed from data/, because DVC
    would keep using them.
    """
    cache, bad = objects(root), []
    for name, found in altered({name: _place(cache, name) for name in used}).items():
        aside = cache.parents[1] / "rotten" / name
        aside.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process has moved it
            _place(cache, name).replace(aside)
        bad.append(Rotten(name, found, aside, used[name]))
        if used[name]:
            _remove(root / used[name])
    return bad


def _remove(place: Path) -> None:
    shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)


def _warn(bad: list[Rotten], then: str) -> None:
    """Print a warning for each object, and add it to the workflow run's annotations."""
    for each in bad:
        actions.warning("Changed outputs", f"{each}; {then}")


def _place(cache: Path, name: str) -> Path:
    return cache / name[:2] / name[2:]


def _hashed(path: Path) -> str:
    """Return the md5 of a file's bytes, cached because every change of the bytes changes the ctime."""
    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        version = (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)
        if version not in _HASHES:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            if time.time_ns() - found.st_ctime_ns < SETTLED:
                return digest
            _HASHES[version] = digest
        return _HASHES[version]


def push(project: Project) -> bool:
    """Upload a model's outputs to the DVC remote, so that others can pull them. False without a remote.

    Raises LoopError if no remote is the default or if the upload fails, and Rejected for changed bytes.
    """
    if not (remotes := _remotes(project.root)):
        return False
    if not (remote := default_remote(project.root)):
        said = f"no DVC remote is the default, so nothing was uploaded; .dvc/config has {', '.join(remotes)}"
        raise LoopError(said, fix=f"dvc remote default {remotes[0]}; ./loop push {project.public}")
    _check_cache(project)
    try:
        dvc(project.root, "push", "--with-deps", *_every(project))
    except DvcError as error:
        raise DvcError(
            f"uploading to the DVC remote {masked(remote)} failed; dvc's reason is above",
            fix=f"check that it is reachable, has space and allows writing; ./loop push {project.public}",
        ) from error
    return True


def _remotes(root: Path) -> list[str]:
    """Return the names of the DVC remotes in DVC's settings."""
    names = (re.fullmatch("'remote \"(.*)\"'", section) for section in _config(root).sections())
    return [name[1] for name in names if name]


def default_remote(root: Path, *, local: bool = True) -> str:
    """Return the URL of the default DVC remote, or "". `local` settings are a user's in config.local."""
    config = _config(root, local=local)
    name = config.get("core", "remote", fallback="")
    return config.get(f"'remote \"{name}\"'", "url", fallback=name)


def _config(root: Path, *, local: bool = True) -> ConfigParser:
    """Return DVC's settings, read directly from its INI files because starting dvc takes a second."""
    config = ConfigParser(interpolation=None)
    for name in (".dvc/config", ".dvc/config.local")[: 1 + local]:
        if (path := root / name).is_file():
            try:
                config.read_string(edited.read(path, str(path), STAGES), str(path))
            except ConfigError as error:
                raise LoopError(one_line(error), fix=f"correct that line of {name}") from error
    return config
