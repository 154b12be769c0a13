"""Builds a model's bento with BentoML, once per release key, and stores it in the cache."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click

from loop.core import plain
from loop.core.dvc import check, md5
from loop.core.errors import LoopError
from loop.core.files import plain_files, read_json, sha256, whole, write_json
from loop.core.names import package
from loop.core.paths import cache
from loop.core.project import Project
from loop.core.signing import opened, signed
from loop.packaging import engine
from loop.packaging.key import release_key, sources
from loop.packaging.records import command, record
from loop.version import VERSION

SEAL = "application/vnd.loop.bento.seal+json"


@dataclass(frozen=True)
class Bento:
    """A built bento, as build/<package>/bento.json records it."""

    key: str
    tag: str  # BentoML's tag, such as `churn_eu:<key>`
    path: Path
    device: plain.Device = "cpu"  # the device that will serve this bento
    model_md5: str = ""


def store() -> Path:
    """Return the BentoML home folder that `loop` uses."""
    return cache() / "bentoml"


def path_of(model: str, key: str, home: Path | None = None) -> Path:
    """Return the folder of a release key's bento in the store, whether or not it exists."""
    return (home or store()) / "bentos" / package(model) / key


def settings(home: Path) -> dict[str, str]:
    """Return the environment variables for BentoML's commands and for a bento's server."""
    # the first two could make Python import this process's modules
    ours = ("PYTHONPATH", "PYTHONSAFEPATH", "PROMETHEUS_MULTIPROC_DIR")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    set_ = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    # OPENBLAS_NUM_THREADS has the same value as in kustomize/base/deployment.yaml
    return {"OPENBLAS_NUM_THREADS": "1", **kept, **set_}


def build(project: Project, device: plain.Device | None = None) -> Bento:
    """Build the work tree's bento for a device, by default dev's, and record it in bento.json.

    Raises Rejected if an output that the bento contains differs from dvc.lock, LoopError if BentoML fails.
    """
    bento = stored(project, device or plain.device(project))
    write_json(project.build / "bento.json", asdict(bento))
    return bento


def stored(project: Project, device: plain.Device) -> Bento:
    """Return the work tree's bento for a device, built if the store has none. Raises as `build` does."""
    key = release_key(project, device=device)
    path = path_of(project.model, key)
    sealed(path, partial(_build, project, key, device))
    return Bento(key, f"{project.package}:{key}", path, device, project.model_md5)


def sealed(path: Path, make: Callable[[Path], None]) -> None:
    """Let `make` write a bento to the store's folder `path`, unless it is there as this machine made it."""
    if why := fault(path):
        if path.is_dir():
            click.echo(f"{path} is not used, and is made again: {why}", err=True)
        with whole(path) as aside:
            make(aside)
        write_json(_seal(path), signed(_told(path), SEAL))


def built(project: Project) -> Bento:
    """Return the bento last built in this clone.

    Raises LoopError if it does not pack dvc.lock's model, or is not as this machine built it.
    """
    bento, recorded = record(project, Bento), project.model_md5
    if bento.model_md5 != recorded:
        what = f"{project.build}/bento.json is about model {bento.model_md5}, but dvc.lock records {recorded}"
        raise LoopError(what, fix=command(project, "bento"))
    if why := fault(bento.path):
        raise LoopError(f"{bento.path}: {why}", fix=command(project, "bento"))
    return bento


def fault(path: Path) -> str:
    """Return why a stored bento is not known to be as this machine has built it; empty if it is."""
    # Others may write to a store that is a shared cache, but the key that signs never leaves this machine.
    if not (path / "bento.yaml").is_file():
        return "there is no bento"
    try:
        same = opened(read_json(_seal(path)), SEAL) == _told(path)
    except (FileNotFoundError, ValueError):
        return "this machine has no signed record of its build"
    except LoopError as error:  # a link
        return str(error)
    return "" if same else "it was changed after the build"


def _seal(path: Path) -> Path:
    """Return the path of a bento's signed record: not in its folder, of which all files go into its image."""
    return path.parents[2] / "seals" / path.parent.name / f"{path.name}.json"


def _told(path: Path) -> bytes:
    """Return a stored bento's record as JSON: SHA-256 of each file, and whether it is executable."""
    files = {
        file.relative_to(path).as_posix(): [sha256(file), bool(file.stat().st_mode & 0o100)]
        for file in plain_files(path.parents[1], f"{path.parent.name}/{path.name}", bytecode=True)
    }
    told = {"bento": f"{path.parent.name}:{path.name}", "files": files}
    return json.dumps(told, sort_keys=True).encode()


def _build(project: Project, key: str, device: plain.Device, into: Path) -> None:
    """Build in a temporary BentoML home, so that the store never contains an incomplete bento."""
    reference = [project.reference.name] if project.reference.exists() else []
    check(project, project.trained.name, *reference)
    with tempfile.TemporaryDirectory(prefix="loop-bento-") as scratch:
        context, home = Path(scratch) / "context", Path(scratch) / "home"
        stage(project, key, context, device)
        env = settings(home)
        # BentoML requires uv on PATH even if it has nothing to lock
        env["PATH"] = os.pathsep.join([env.get("PATH", ""), *map(str, sorted(cache().glob("uv-*/bin")))])
        command = [sys.executable, "-m", "bentoml", "build", "--version", key, str(context)]
        try:
            engine.run(command, f"correct {project.bento}/service.py", env)
        except LoopError as error:
            raise _blamed(dict(sources(project, device)), context, env) or error from None
        made = path_of(project.model, key, home)
        if not made.is_dir():
            names = [path.name for path in (home / "bentos").iterdir()]
            wrong = f"BentoML built {names}, should be {project.package!r}"
            fix = f"name its service {project.package!r}"
            raise LoopError(f"bentos/{project.package}/service.py: {wrong}", fix=fix)
        _same_bytes(made)
        shutil.copytree(made, into)


def _blamed(packed: dict[str, Path], context: Path, env: dict[str, str]) -> LoopError | None:
    """Return an error that names the team's file which cannot be imported; None if service.py can be."""
    # BentoML does not print the place of an error, and advises to hide the import
    command = [sys.executable, "-c", "import service"]
    done = subprocess.run(command, cwd=context, env=env, capture_output=True, text=True, check=False)
    frames = re.findall(r'File "(.+)", line (\d+)', done.stderr) if done.returncode else []
    for file, line in reversed(frames):
        inside = os.path.relpath(file, context.resolve())
        if inside in packed and not inside.startswith("loop/"):
            place = f"{packed[inside]}:{line}"
            return LoopError(f"{place}: {done.stderr.strip().splitlines()[-1]}", fix=f"correct {place}")
    return None


def stage(project: Project, key: str, context: Path, device: plain.Device = "cpu") -> None:
    """Fill the build context with service, lock file, `loop.runtime`, model/ and release.json."""
    trained = project.trained
    model_files = {
        path.relative_to(trained).as_posix(): path
        for path in plain_files(project.root, trained.relative_to(project.root).as_posix(), bytecode=True)
    }
    packed = dict(sources(project, device)) | {f"model/{name}": path for name, path in model_files.items()}
    recorded, reference = project.lock.outs(project.model), project.reference.relative_to(project.root)
    for path in plain_files(project.root, reference.as_posix()):
        if recorded.get(reference.as_posix()) == md5(path):  # the monitor reads it from the image
            packed[path.name] = path
    for name, source in packed.items():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    files = {name: sha256(path) for name, path in model_files.items()}
    release = {"model": project.public, "key": key, "engine": VERSION, "files": files}
    write_json(context / "release.json", {**release, "p99_ms": plain.latency_target(project)})


def _same_bytes(bento: Path) -> None:
    """Reset the build time and restore our lock file, so that equal release keys give equal bytes."""
    manifest = bento / "bento.yaml"
    text = manifest.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^creation_time: .*$", "creation_time: '1970-01-01T00:00:00+00:00'", text)
    manifest.write_text(text, encoding="utf-8")
    shutil.copyfile(bento / "src" / "requirements.lock", bento / "env" / "python" / "requirements.txt")
