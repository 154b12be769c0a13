"""Builds a model's bento by BentoML, once a release key, into a store in the cache."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

from loop.core import plain
from loop.core.dvc import Lock, check, md5
from loop.core.errors import LoopError
from loop.core.files import plain_files, read_json, sha256, whole, write_json
from loop.core.names import package, public
from loop.core.paths import ModelPaths, cache
from loop.core.signing import opened, signed
from loop.packaging.key import release_key, sources
from loop.version import VERSION

SEAL = "application/vnd.loop.bento.seal+json"


@dataclass(frozen=True)
class Bento:
    """A built bento: build/<package>/bento.json."""

    key: str
    tag: str  # `churn_eu:<key>`
    path: Path
    device: plain.Device = "cpu"  # what will serve it


def store() -> Path:
    """BentoML's home, of the loop's own: bentos at `bentos/<package>/<key>`."""
    return cache() / "bentoml"


def path_of(model: str, key: str, home: Path | None = None) -> Path:
    """Where the bento of a release key is, if it was built."""
    return (home or store()) / "bentos" / package(model) / key


def settings(home: Path) -> dict[str, str]:
    """The environment of BentoML's own commands and of a bento's server: this home, no analytics.

    Modules come from the folder that they run in, and not from this process's.
    """
    ours = ("PYTHONPATH", "PYTHONSAFEPATH", "PROMETHEUS_MULTIPROC_DIR")
    kept = {key: value for key, value in os.environ.items() if key not in ours}
    set_ = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONDONTWRITEBYTECODE": "1"}
    return {"OPENBLAS_NUM_THREADS": "1", **kept, **set_}  # as in kustomize/base/deployment.yaml


def build(root: Path, model: str, home: Path | None = None, *, device: plain.Device | None = None) -> Bento:
    """The bento of the work tree's release key for a device, dev's unless given; says so in bento.json.

    Rejected where an output that is packed is not what dvc.lock records, LoopError where BentoML fails.
    """
    bento = stored(root, model, device or plain.device(root, model), home)
    record = {"key": bento.key, "tag": bento.tag, "path": str(bento.path), "device": bento.device}
    record["model_md5"] = Lock.of(root).model_md5(model)
    write_json(ModelPaths(root, model).build / "bento.json", record)
    return bento


def stored(root: Path, model: str, device: plain.Device, home: Path | None = None) -> Bento:
    """The bento of the work tree's release key for a device, built unless the store has it."""
    key = release_key(root, model, device=device)
    path = path_of(model, key, home)
    if why := fault(path):
        if path.is_dir():
            click.echo(f"{path} is not taken, and is built again: {why}", err=True)
        paths = ModelPaths(root, model)
        check(
            root,
            model,
            *(out.name for out in (paths.trained, paths.reference) if out != paths.reference or out.exists()),
        )
        with whole(path) as aside:
            _build(root, model, key, device, aside)
        write_json(_seal(path), signed(_told(path), SEAL))
    return Bento(key, f"{package(model)}:{key}", path, device)


def built(root: Path, model: str) -> Bento:
    """The bento that `loop bento` built last here; LoopError when there is none, or it has another model."""
    record = ModelPaths(root, model).build / "bento.json"
    if not record.is_file():
        raise LoopError(
            f"{record} does not exist: no bento was built here", fix=f"./loop bento {public(model)}"
        )
    values, recorded = read_json(record), Lock.of(root).model_md5(model)
    if values.get("model_md5") != recorded:
        raise LoopError(
            f"{record} is about model {values.get('model_md5')}, dvc.lock records {recorded}",
            fix=f"./loop bento {public(model)}",
        )
    path = checked(Path(values["path"]), model)
    return Bento(values["key"], values["tag"], path, values.get("device", "cpu"))


def checked(path: Path, model: str) -> Path:
    """The bento at a path of the store, if all of it is as this machine built it; LoopError otherwise."""
    if why := fault(path):
        raise LoopError(f"{path}: {why}", fix=f"./loop bento {public(model)}")
    return path


def fault(path: Path) -> str:
    """What in a stored bento is not as this machine built it; empty if all of it is.

    The store may come from a cache that others could write. The key that signs what was built never does.
    """
    if not (path / "bento.yaml").is_file():
        return "no bento is there"
    try:
        was, now = opened(read_json(_seal(path)), SEAL), _told(path)
    except FileNotFoundError:
        return "there is no record of what was built"
    except ValueError:
        return "the record of what was built is not signed by this machine's key"
    except LoopError as error:
        return str(error)
    if was == now:
        return ""
    before, after = (json.loads(told)["files"] for told in (was, now))
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    return f"{names[0]} is not what was built" if names else "it was built as another bento"


def _seal(path: Path) -> Path:
    """The signed record of a stored bento, which lies outside it because all of a bento is packed."""
    return path.parents[2] / "seals" / path.parent.name / f"{path.name}.json"


def _told(path: Path) -> bytes:
    """A stored bento as JSON: each file's SHA-256, and whether it is executable."""
    files = {
        file.relative_to(path).as_posix(): [sha256(file), bool(file.stat().st_mode & 0o100)]
        for file in plain_files(path.parents[1], f"{path.parent.name}/{path.name}", bytecode=True)
    }
    told = {"bento": f"{path.parent.name}:{path.name}", "files": files}
    return json.dumps(told, sort_keys=True).encode()


def _build(root: Path, model: str, key: str, device: plain.Device, into: Path) -> None:
    """Build in a home of its own, so that a half-built bento never stands in the store."""
    with tempfile.TemporaryDirectory(prefix="loop-bento-") as scratch:
        context, home = Path(scratch) / "context", Path(scratch) / "home"
        stage(root, model, key, context, device)
        _bentoml("build", "--version", key, str(context), home=home)
        made = path_of(model, key, home)
        if not made.is_dir():
            names = [path.name for path in (home / "bentos").iterdir()]
            raise LoopError(
                f"bentos/{package(model)}/service.py: BentoML built {names}",
                fix=f"name its service {package(model)!r}",
            )
        _same_bytes(made)
        shutil.copytree(made, into)


def stage(root: Path, model: str, key: str, context: Path, device: plain.Device = "cpu") -> None:
    """Lay out the build context: service, lock, `loop.runtime`, model/, release.json.

    And reference.parquet, where the one that dvc.lock records is here: the monitor takes it from the image.
    """
    trained = ModelPaths(root, model).trained
    model_files = {
        path.relative_to(trained).as_posix(): path
        for path in plain_files(root, trained.relative_to(root).as_posix(), bytecode=True)
    }
    packed = dict(sources(root, model, device)) | {
        f"model/{name}": path for name, path in model_files.items()
    }
    for reference in plain_files(root, ModelPaths(root, model).reference.relative_to(root).as_posix()):
        if _recorded(root, model, reference):
            packed[reference.name] = reference
    for name, source in packed.items():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    files = {name: sha256(path) for name, path in model_files.items()}
    release = {
        "model": public(model),
        "key": key,
        "engine": VERSION,
        "files": files,
        "p99_ms": plain.latency_target(root, model),
    }
    write_json(context / "release.json", release)


def _recorded(root: Path, model: str, out: Path) -> bool:
    """Whether an output of `train` is the one in dvc.lock."""
    try:
        return Lock.of(root).md5(model, "train", out.name) == md5(out)
    except LoopError:  # it records none
        return False


def _same_bytes(bento: Path) -> None:
    """Make equal keys equal bytes: no build time, and our lock, to which BentoML adds a line for itself."""
    manifest = bento / "bento.yaml"
    text = manifest.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^creation_time: .*$", "creation_time: '1970-01-01T00:00:00+00:00'", text)
    manifest.write_text(text, encoding="utf-8")
    shutil.copyfile(bento / "src" / "requirements.lock", bento / "env" / "python" / "requirements.txt")


def _bentoml(*args: str, home: Path) -> None:
    """Run BentoML's command line. It asks that uv be on PATH, even where nothing is left to lock."""
    env = settings(home)
    uv = sorted(str(path) for path in cache().glob("uv-*/bin"))
    env["PATH"] = os.pathsep.join([env.get("PATH", ""), *uv])
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", *args], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise LoopError(f"bentoml {' '.join(args)} failed:\n{said}", fix="mend bentos/<model>/service.py")
