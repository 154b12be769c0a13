"""Adding and dropping whole models: their folders, and their part of params.yaml and dvc.lock."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core import edited, params, plain
from loop.core.errors import LoopError
from loop.core.files import plain_files
from loop.core.names import package, public
from loop.core.paths import TEMPLATE
from loop.delivery import state
from loop.delivery.state import State

FOLDED = 80  # characters of a line of dvc.lock, as DVC writes it
OVERLAYS, PRODUCTION = "kustomize/overlays", "production"
EXAMPLES = "tests/models"  # models of other kinds, which the tests play: code and params, but no manifests


def new(root: Path, model: str, like: str) -> list[str]:
    """Write the folders and the section in params.yaml of a new model; returns the paths.

    `like` is a model of params.yaml, or an example of EXAMPLES, which gets the manifests of the first model.
    The new model's environments begin with nothing released. LoopError where the model exists, or a folder of
    its name. params.yaml is written last: until then nothing knows of the model.
    """
    name, other = package(model), package(like)
    known = params.read(root)
    code, manifests, section = _copied(root, other, known)
    environments = _environments(root, manifests)
    folders = dict(zip(_folders(manifests, environments), _folders(name, environments), strict=True))
    there = [folder for folder in folders.values() if (root / folder).exists()]
    if name in known or there:
        raise LoopError(
            f"{', '.join(there) or 'params.yaml'} has a model {name!r} already",
            fix=f"choose another name, or remove them: rm -r {' '.join(there)}"
            if there
            else "choose another name",
        )
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as scratch:
        for folder, to in folders.items():
            if folder.startswith("kustomize/"):
                _copy(root, folder, Path(scratch) / to, manifests, name)
            else:
                _copy(code, f"{folder.rpartition('/')[0]}/{other}", Path(scratch) / to, other, name)
        for shared in code.parent.glob("requirements.*") if code != root else ():
            shutil.copy(shared, Path(scratch) / "bentos" / name)
        for environment in environments:
            for path, text in state.files(State(), environment, name).items():
                _write(Path(scratch) / path, text)
        for to in folders.values():
            (root / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(scratch) / to, root / to)
    _add_section(root, name, section)
    return [*folders.values(), plain.FILE]


def _copied(root: Path, like: str, known: dict[str, Any]) -> tuple[Path, str, Any]:
    """Find where the code to be copied is, the model whose manifests are copied, and the section."""
    if like in known:
        params.load(root, like)  # names what is wrong with it
        path, code, manifests = root / plain.FILE, root, like
    else:
        code, manifests = TEMPLATE / EXAMPLES / like, next(iter(known))
        path = code / plain.FILE
    if not path.is_file():
        examples = sorted(each.parent.name for each in TEMPLATE.glob(f"{EXAMPLES}/*/{plain.FILE}"))
        raise LoopError(
            f"params.yaml has no model {like!r} to copy; it has {', '.join(sorted(known))}"
            + (f"; {EXAMPLES} has {', '.join(examples)}" if examples else ""),
            fix=f"--like {public(min(known))}",
        )
    document = YAML().load(path.read_text(encoding="utf-8"))
    return code, manifests, (document["models"] if code == root else document)[like]


def unwanted(root: Path, models: list[str]) -> list[str]:
    """The models that go where only these stay.

    LoopError where one of `models` is unknown, or a model that goes is served somewhere.
    """
    kept, known = {package(model) for model in models}, params.read(root)
    if strange := sorted(kept - known.keys()):
        raise LoopError(
            f"params.yaml has no model {', '.join(strange)}; it has {', '.join(sorted(known))}",
            fix="name models that are to stay",
        )
    dropped = [name for name in known if name not in kept]
    for name in dropped:
        for environment in _environments(root, name):
            _refuse_served(root, environment, name)
    return dropped


def keep(root: Path, models: list[str]) -> list[str]:
    """Drop every model but these: its folders, data, and its part of params.yaml and dvc.lock; returns them.

    LoopError as `unwanted` raises it.
    """
    dropped = unwanted(root, models)
    for name in dropped:
        for folder in (*_folders(name, _environments(root, name)), f"data/{name}", f"tests/models/{name}"):
            shutil.rmtree(root / folder, ignore_errors=True)
    if dropped:
        _forget(root, dropped)
    return dropped


def leaving(root: Path, environments: list[str]) -> list[str]:
    """The environments that go where only these stay.

    LoopError where one of `environments` is not there, `production` goes, or one that goes serves a model.
    """
    there = sorted(path.name for path in (root / OVERLAYS).iterdir() if path.is_dir())
    if strange := sorted(set(environments) - set(there)):
        raise LoopError(
            f"{OVERLAYS} has no environment {', '.join(strange)}; it has {', '.join(there)}",
            fix="name environments that are to stay; docs/fork.md says how to add one",
        )
    if PRODUCTION not in environments:
        raise LoopError(
            f"{PRODUCTION} would go, and there the champion is served", fix=f"name {PRODUCTION} too"
        )
    dropped = [name for name in there if name not in environments]
    for environment in dropped:
        for folder in sorted((root / OVERLAYS / environment).iterdir()):
            _refuse_served(root, environment, package(folder.name))
    return dropped


def keep_environments(root: Path, environments: list[str]) -> list[str]:
    """Drop the overlays of every environment but these; returns those. LoopError as `leaving` raises it."""
    dropped = leaving(root, environments)
    for environment in dropped:
        shutil.rmtree(root / OVERLAYS / environment)
    return dropped


def _refuse_served(root: Path, environment: str, model: str) -> None:
    """LoopError where an environment serves a model."""
    path = f"{state.folder(environment, model)}/release.yaml"
    served = state.parse(edited.read(root / path, path, "take it from Git's history"), path)
    if served.stable:
        raise LoopError(
            f"{environment} serves {public(model)} {served.stable.key}, so it is not dropped",
            fix=f"remove {OVERLAYS}/{environment}/{public(model)} by a pull request first",
        )


def _environments(root: Path, model: str) -> list[str]:
    """Those that have an overlay of a model."""
    return sorted(path.parent.name for path in root.glob(f"kustomize/overlays/*/{public(model)}"))


def _folders(model: str, environments: list[str]) -> list[str]:
    """A model's folders, below the root."""
    overlays = [f"kustomize/overlays/{environment}/{public(model)}" for environment in environments]
    return [f"src/models/{model}", f"bentos/{model}", f"kustomize/models/{public(model)}", *overlays]


def _add_section(root: Path, name: str, section: Any) -> None:
    """Add a copied section, comments too, without what is the other model's production's."""
    section["ingest"].pop("logged", None)
    (section.get("monitor") or {}).pop("store", None)
    section["register"]["experiment"] = public(name)
    with edited.rewriting(root / plain.FILE) as document:
        document["models"][name] = section


def _forget(root: Path, models: list[str]) -> None:
    """Drop models' sections, and what DVC has recorded of them: `train@churn` is a stage of churn."""
    with edited.rewriting(root / plain.FILE) as document:
        for name in models:
            del document["models"][name]
    if (lock := root / "dvc.lock").is_file():
        with edited.rewriting(lock, FOLDED) as document:
            stages = document.get("stages") or {}
            for stage in [stage for stage in stages if stage.rpartition("@")[2] in models]:
                del stages[stage]


def _copy(root: Path, folder: str, to: Path, other: str, name: str) -> None:
    """Copy a folder's files with the other model's name replaced; binary files are copied as they are.

    In the model's own code the name may also be a column's, so only imports are changed there. Its
    `__init__.py` would say what the other model is; a package needs none.
    """
    imports = re.compile(rf"\bmodels\.{other}\b")
    for path in plain_files(root, folder):
        if folder.startswith("src/") and path.name == "__init__.py":
            continue
        target = to / path.relative_to(root / folder)
        content = path.read_bytes()
        try:
            text = content.decode("utf-8")
            own = folder.startswith("src/")
            _write(
                target, imports.sub(f"models.{name}", text) if own else _renamed(text, folder, other, name)
            )
        except UnicodeDecodeError:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        shutil.copymode(path, target)


def _renamed(text: str, folder: str, other: str, name: str) -> str:
    """The text with the name in its three spellings replaced: `a_b`, `a-b` and a class's `AB`.

    A name of one word is spelled alike in Python and in Kubernetes; the folder tells which is meant.
    """
    spellings = {public(other): public(name), other: name, _class(other): _class(name)}
    if folder.startswith("kustomize/"):
        spellings[public(other)] = public(name)
    either = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    return re.sub(rf"(?<![A-Za-z0-9])({either})(?![A-Za-z0-9])", lambda found: spellings[found[1]], text)


def _class(name: str) -> str:
    return name.title().replace("_", "")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
