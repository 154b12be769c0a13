"""Adds and deletes models and environments: their folders and their parts of params.yaml and dvc.lock."""

import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from loop.core import edited, params, plain, release_state
from loop.core.dvc import LOCK, Lock
from loop.core.errors import LoopError
from loop.core.files import plain_files, write_text
from loop.core.names import package, public
from loop.core.paths import TEMPLATE
from loop.core.plain import OVERLAYS
from loop.core.project import Project
from loop.core.release_state import State

PRODUCTION = "production"
# Example models of the template's tests. They have code and params, but no manifests.
EXAMPLES = "tests/models"
# the head of a service's class with the docstring, which describes the other model
CLASS = re.compile(r'(^class .*:\n    )""".*?"""', re.MULTILINE | re.DOTALL)


def new(root: Path, model: str, like: str) -> list[str]:
    """Create a model as a copy of the model `like`; returns the paths of its folders and of params.yaml.

    `like` is a model of params.yaml or one of EXAMPLES. An example has no manifests, so those of the first
    model in params.yaml are copied. The new model has no release in any environment. params.yaml is written
    last, so that a failure leaves no incomplete model in it. Raises LoopError if the model or one of its
    folders exists already.
    """
    name, other = package(model), package(like)
    known = params.read(root)
    code, manifests, section = _copied(root, other, known)
    folders = {}  # each folder of the new model, and the root and the folder that it is copied from
    for path in _folders(root, manifests):
        parent = path.rpartition("/")[0]
        if parent.startswith("kustomize/"):
            folders[f"{parent}/{public(name)}"] = (root, path)
        else:
            folders[f"{parent}/{name}"] = (code, f"{parent}/{other}")
    there = [folder for folder in folders if (root / folder).exists()]
    if name in known or there:
        fix = "choose another name" + ("" if name in known else f", or remove them: rm -r {' '.join(there)}")
        raise LoopError(f"the model {name!r} exists already, in {', '.join(there) or plain.FILE}", fix=fix)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=root) as folder:
        scratch = Path(folder)
        for to, (base, source) in folders.items():
            old = manifests if to.startswith("kustomize/") else other
            _copy(base, source, scratch / to, old, name)
        for shared in code.parent.glob("requirements.*") if code != root else ():
            shutil.copy(shared, scratch / "bentos" / name)
        for overlay in scratch.glob("kustomize/overlays/*"):
            for path, text in release_state.files(State(), overlay.name, name).items():
                write_text(scratch / path, text)
        service = scratch / "bentos" / name / "service.py"
        text = CLASS.sub(rf'\1"""Serves {public(name)}."""', service.read_text(encoding="utf-8"))
        write_text(service, text)
        for to in folders:
            (root / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.move(scratch / to, root / to)
    _add_section(root, name, section)
    return [*folders, plain.FILE]


def _copied(root: Path, like: str, known: dict[str, Any]) -> tuple[Path, str, Any]:
    """Return the folder with the code to copy, the model whose manifests to copy, and the section to copy."""
    if like in known:
        _ = Project(root, like).params  # raises LoopError if the section is invalid
        return root, like, YAML().load(plain.text(root))["models"][like]
    path = TEMPLATE / EXAMPLES / like / plain.FILE
    if not path.is_file():
        examples = sorted(each.parent.name for each in TEMPLATE.glob(f"{EXAMPLES}/*/{plain.FILE}"))
        raise LoopError(
            f"params.yaml has no model {like!r} to copy; it has {', '.join(sorted(known))}"
            + (f"; {EXAMPLES} has {', '.join(examples)}" if examples else ""),
            fix="give --like one of these",
        )
    return path.parent, next(iter(known)), YAML().load(path.read_text(encoding="utf-8"))[like]


def unwanted(root: Path, models: list[str]) -> list[str]:
    """Return the models of params.yaml that are not in `models`.

    Raises LoopError if one of `models` is unknown, or if an environment serves a model to be deleted.
    """
    known = list(params.read(root))
    dropped = _dropped({package(model) for model in models}, known, f"{plain.FILE} has no model")
    _refuse_served(root, *(f"*/{public(name)}" for name in dropped))
    return dropped


def drop(root: Path, models: list[str]) -> None:
    """Delete models: their folders, data, cards, rows of the README, sections of params.yaml and stages."""
    recorded = Lock.of(root)  # first, so that nothing is deleted if dvc.lock is invalid
    for name in models:
        for folder in (*_folders(root, name), f"data/{name}", f"tests/models/{name}"):
            shutil.rmtree(root / folder, ignore_errors=True)
        (root / "docs" / "models" / f"{public(name)}.md").unlink(missing_ok=True)
    if (readme := root / "README.md").is_file():
        names = "|".join(map(re.escape, map(public, models)))
        text = readme.read_text(encoding="utf-8")
        readme.write_text(re.sub(rf"(?m)^\| *`({names})` *\|.*\n", "", text), encoding="utf-8")
    with edited.rewriting(root / plain.FILE) as document:
        for name in models:
            del document["models"][name]
    if recorded.stages:
        stages = recorded.stages.items()
        kept = Lock({stage: each for stage, each in stages if stage.rpartition("@")[2] not in models})
        write_text(root / LOCK, kept.text())


def leaving(root: Path, environments: list[str]) -> list[str]:
    """Return the environments that are not in `environments`.

    Raises LoopError if one of `environments` does not exist, if `production` is not among them, or if an
    environment to be deleted serves a model.
    """
    dropped = _dropped(set(environments), plain.environments(root), f"{OVERLAYS} has no environment")
    if PRODUCTION in dropped:
        what = f"{PRODUCTION} cannot be deleted, because it serves the champion"
        raise LoopError(what, fix=f"name {PRODUCTION} too")
    _refuse_served(root, *(f"{environment}/*" for environment in dropped))
    return dropped


def _dropped(kept: set[str], known: list[str], lacking: str) -> list[str]:
    """Return the names that are known and not kept. Raises LoopError if one to be kept is unknown."""
    if strange := sorted(kept - set(known)):
        what = f"{lacking} {', '.join(strange)}; it has {', '.join(sorted(known))}"
        raise LoopError(what, fix="give the names to keep; docs/fork.md explains how to add one")
    return [name for name in known if name not in kept]


def _refuse_served(root: Path, *patterns: str) -> None:
    """Raise LoopError if one of the overlays `<environment>/<model>` serves a release."""
    for overlay in sorted(path for pattern in patterns for path in (root / OVERLAYS).glob(pattern)):
        environment, model = overlay.parts[-2:]
        if stable := release_state.read(root, environment, model).stable:
            raise LoopError(
                f"{environment} serves {model} {stable.key}, so it cannot be deleted",
                fix=f"first merge a pull request that deletes {OVERLAYS}/{environment}/{model}",
            )


def _folders(root: Path, model: str) -> list[str]:
    """Return the paths of a model's folders, relative to the repository's root."""
    overlays = sorted(
        f"{OVERLAYS}/{path.parent.name}/{path.name}" for path in (root / OVERLAYS).glob(f"*/{public(model)}")
    )
    return [f"src/models/{model}", f"bentos/{model}", f"kustomize/models/{public(model)}", *overlays]


def _add_section(root: Path, name: str, section: Any) -> None:
    """Add a model's copied section, with its comments, to params.yaml.

    The keys `ingest.logged` and `monitor.store` are left out, because they refer to the other model's
    production. Slices, targets and floors become empty, because they name the other model's features, and
    its numbers would judge the new one.
    """
    section["ingest"].pop("logged", None)
    (section.get("monitor") or {}).pop("store", None)
    section["register"]["experiment"] = public(name)
    if "slices" in (section.get("evaluate") or {}):
        section["evaluate"]["slices"] = []
    for part, key, comment in (
        (section, "sla", "your targets for production, such as p99_ms and metrics"),
        (section["gate"], "floors", "the value of each metric that a release must reach"),
    ):
        part[key] = {}
        part.yaml_add_eol_comment(comment, key, column=0)
    with edited.rewriting(root / plain.FILE) as document:
        document["models"][name] = section


def _copy(root: Path, folder: str, to: Path, other: str, name: str) -> None:
    """Copy a folder and replace the name `other` by `name` in its text files.

    In src/models only imports are changed, because a column may have the same name as the model. The folder's
    `__init__.py` is left out, because its docstring describes the other model.
    """
    for path in (each for each in plain_files(root, folder) if each != root / folder / "__init__.py"):
        content = path.read_bytes()
        with suppress(UnicodeDecodeError):  # other files are copied as they are
            text = content.decode()
            imported = re.sub(rf"\bmodels\.{other}\b", f"models.{name}", text)
            text = imported if folder.startswith("src/") else _renamed(text, folder, other, name)
            content = text.encode()
        target = to / path.relative_to(root / folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        shutil.copymode(path, target)


def _renamed(text: str, folder: str, other: str, name: str) -> str:
    """Return the text with the name `other` replaced in its three spellings `a_b`, `a-b` and `AB`.

    A name of one word is the same in Python and in Kubernetes. It becomes `a-b` in files of kustomize/, and
    `a_b` elsewhere.
    """
    spellings = {public(other): public(name), other: name}
    spellings[other.title().replace("_", "")] = name.title().replace("_", "")
    if folder.startswith("kustomize/"):
        spellings[public(other)] = public(name)
    either = "|".join(map(re.escape, sorted(spellings, key=len, reverse=True)))
    return re.sub(rf"(?<![A-Za-z0-9])({either})(?![A-Za-z0-9])", lambda found: spellings[found[1]], text)
