"""What Argo CD will apply: an overlay rendered by kustomize, and checked by schema and policy."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from loop.core.errors import LoopError, Rejected
from loop.core.names import public
from loop.core.programs import program
from loop.delivery import policy, project

KUSTOMIZATIONS = ("kustomization.yaml", "kustomization.yml", "Kustomization")
FOLDERS = {  # where a kustomization names folders and files; by a URL kustomize clones or downloads it
    *("resources", "components", "bases", "crds", "configurations"),
    *("generators", "transformers", "validators"),
}
FILES = {"path", "files", "envs", "env", "patchesstrategicmerge"}  # and where files alone
HERE = re.compile(r"(?!(?:\./)*github\.com)[\w.][\w./-]*", re.IGNORECASE)  # that host is one without a scheme
COPY = "copy it into the repository, where it is reviewed"
SCHEMAS = "tests/manifests/schemas/{{.ResourceKind}}{{.KindSuffix}}.json"


def overlay(root: Path, model: str, environment: str) -> Path:
    """An environment's folder of a model; LoopError where there is none."""
    path = root / "kustomize" / "overlays" / environment / public(model)
    if not (path / "kustomization.yaml").is_file():
        raise LoopError(
            f"{path}/kustomization.yaml does not exist", fix="name a model and an environment that have one"
        )
    return path


def build(root: Path, folder: Path) -> str:
    """A folder's manifests as YAML; LoopError with kustomize's own words.

    Rejected where a kustomization names what is not in the repository: kustomize would fetch it, and Argo CD
    again, when it may be something else than what was checked.
    """
    _local(folder, set())
    return _run([program(root, "kustomize"), "build", str(folder)], None)


def documents(manifests: str) -> list[dict[str, Any]]:
    """Rendered YAML as plain data, without nulls: to Kubernetes, such a key is not there."""
    return [_given(document) for document in YAML(typ="safe").load_all(manifests) if document]


def check(root: Path, manifests: str, where: str, namespace: str | None = None) -> None:
    """Rejected where a manifest breaks a policy or its schema; every breach is named.

    `namespace` is the overlay's own, for a model's manifests: it may hold everything that they render.
    """
    objects = documents(manifests)
    breaches = [*policy.breaches(objects), *_schemas(root, manifests)]
    if namespace:
        breaches += project.breaches(root, objects, namespace)
    if breaches:
        raise Rejected(f"{where}:\n" + "\n".join(f"- {breach}" for breach in breaches))


def _local(folder: Path, seen: set[Path]) -> None:
    """Rejected unless all that this folder's kustomization names, and what that names, is here."""
    if (place := folder.resolve()) in seen:
        return
    seen.add(place)
    for path in (folder / name for name in KUSTOMIZATIONS if (folder / name).is_file()):
        try:
            named = list(_named(YAML(typ="safe").load(path.read_text(encoding="utf-8"))))
        except (YAMLError, UnicodeDecodeError) as error:
            raise Rejected(f"{path}: is no YAML: {' '.join(str(error).split())}") from error
        for key, name in named:
            if key in FOLDERS and "\n" not in name:  # with a line break it is the object itself
                if not HERE.fullmatch(name) or not (folder / name).exists():
                    raise Rejected(f"{path}: {key}: {name} is not in this repository", fix=COPY)
                _local(folder / name, seen)
            elif key in FILES and "://" in name:
                raise Rejected(f"{path}: {key}: {name} is not in this repository", fix=COPY)


def _named(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a kustomization with its key, which kustomize reads in any case of letters."""
    if isinstance(node, dict):
        for name, each in node.items():
            yield from _named(each, str(name).lower())
    elif isinstance(node, list):
        for each in node:
            yield from _named(each, key)
    elif isinstance(node, str):
        yield key, node


def _given(node: Any) -> Any:
    if isinstance(node, list):
        return [_given(each) for each in node]
    if isinstance(node, dict):
        return {key: _given(value) for key, value in node.items() if value is not None}
    return node


def _schemas(root: Path, manifests: str) -> list[str]:
    """What kubeconform finds against the schemas kept in the repository; a kind without one is a finding."""
    command = [
        program(root, "kubeconform"),
        "-strict",
        "-output",
        "text",
        "-schema-location",
        str(root / SCHEMAS),
    ]
    done = subprocess.run(command, input=manifests, capture_output=True, text=True, check=False)
    found = [line.removeprefix("stdin - ") for line in (done.stdout + done.stderr).splitlines()]
    return found or (["kubeconform failed without a word"] if done.returncode else [])


def _run(command: list[str], stdin: str | None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoopError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
