"""Migrations: an upgrade's changes of a team's own files, one function each, all safe to run again.

Each takes the files that `READ` names, by path, and returns them as the new version wants them. The engine
that upgrades a fork is older than these, so it starts the new version's as `python -m loop.fork.migrations`.
"""

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from ruamel.yaml import YAML

from loop.core import edited
from loop.delivery import state

Files = dict[str, str]
READ = re.compile(
    r"(?:bentos|src/models|tests)/.+\.py|params\.yaml"
    r"|kustomize/overlays/[^/]+/[^/]+/release/(?:release|kustomization)\.yaml"
)
MOVED = (  # how a package or module was named, and how it is named now
    (r"from loop\.serving import packed", "from loop import runtime as packed"),
    (r"from loop import diagnosis", "from loop.fork import doctor as diagnosis"),
    (r"from loop import folders", "from loop.fork import folders"),
    (r"loop\.serving\.packed", "loop.runtime"),
    (r"loop\.serving", "loop.packaging"),
    (r"loop\.demo", "loop_demo"),
    (r"loop\.diagnosis", "loop.fork.doctor"),
    (r"loop\.folders", "loop.fork.folders"),
)


def params(files: Files) -> Files:
    """0.2.0: `top_k` and `known_days` are the protocol's, and a promised accuracy is one of `sla.metrics`."""
    moves = (
        (("evaluate", "top_k"), ("evaluate", "protocol", "top_k")),
        (("split", "known_days"), ("evaluate", "protocol", "known_days")),
        (("monitor", "accuracy"), ("sla", "metrics", "accuracy")),
    )
    document = edited.yaml(files.get("params.yaml", ""), "params.yaml") or {}
    models = document.get("models") if isinstance(document, dict) else None
    if not any(_has(section, old) for section in (models or {}).values() for old, _ in moves):
        return files
    yaml, text = YAML(), io.StringIO()
    yaml.preserve_quotes, yaml.width = True, 4096
    whole = yaml.load(files["params.yaml"])
    for section in whole["models"].values():
        for old, new in moves:
            if _has(section, old):
                _put(section, new, section[old[0]].pop(old[1]))
    yaml.dump(whole, text)
    return files | {"params.yaml": text.getvalue()}


def mlflow(files: Files) -> Files:
    """0.2.0: `log_to_mlflow` of an estimator is `save_to_mlflow`, and calls the flavour's `save_model`."""
    changed = {}
    for path, text in files.items():
        if re.fullmatch(r"src/models/[^/]+/estimator\.py", path) and "def log_to_mlflow" in text:
            called = re.sub(r"\b(mlflow\.\w+)\.log_model\(", r"\1.save_model(", text)
            changed[path] = called.replace("def log_to_mlflow", "def save_to_mlflow")
    return files | changed


def modules(files: Files) -> Files:
    """0.2.0: what an image runs is the package `loop.runtime`, and three other packages moved too."""
    changed = {}
    for path, before in files.items():
        text = before
        if path.endswith(".py"):
            for old, new in MOVED:
                text = re.sub(rf"\b{old}\b", new, text)
            changed[path] = text
    return files | changed


def servers(files: Files) -> Files:
    """0.2.0: manifests start `loop.runtime.serve`; a patch makes older images start their own module."""
    changed = {}
    for path, text in files.items():
        if path.endswith("/release/release.yaml"):
            read = state.parse(text, path)
            if read.stable:  # what serves nothing keeps its bytes
                changed[str(PurePosixPath(path).with_name("kustomization.yaml"))] = state.component(read)
    return files | changed


ALL: tuple[Callable[[Files], Files], ...] = (params, mlflow, modules, servers)


def migrated(files: Files) -> Files:
    """The files after all migrations; those that READ does not name are left out."""
    found = {path: text for path, text in files.items() if READ.fullmatch(path)}
    for migration in ALL:
        found = migration(found)
    return found


def _has(section: Any, key: tuple[str, str]) -> bool:
    part = section.get(key[0]) if isinstance(section, dict) else None
    return isinstance(part, dict) and key[1] in part


def _put(section: Any, keys: tuple[str, ...], value: Any) -> None:
    """Set a value deep down, unless one is there."""
    *parts, last = keys
    for part in parts:
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
    section.setdefault(last, value)


if __name__ == "__main__":
    json.dump(migrated(json.load(sys.stdin)), sys.stdout)
