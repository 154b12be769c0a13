"""Migrations: changes that an upgrade makes to a team's own files, one function for each change.

Each function takes and returns `{path: text}` of the files that match `READ`; a second run changes nothing.
An upgrade is started by the old engine, which does not have the new version's migrations. It therefore runs
them from the new version's files, by `python -m loop.fork.migrations`.
"""

import io
import json
import re
import sys
from collections.abc import Callable

from ruamel.yaml import YAML

from loop.core import edited, release_state

Files = dict[str, str]
READ = re.compile(
    r"(?:bentos|src/models|tests)/.+\.py|params\.yaml"
    r"|kustomize/overlays/[^/]+/[^/]+/release/(?:release|kustomization)\.yaml"
)
MOVED = (  # old and new names of packages and modules
    (r"from loop\.serving import packed", "from loop import runtime as packed"),
    (r"from loop import diagnosis", "from loop.fork import doctor as diagnosis"),
    (r"from loop import folders", "from loop.fork import folders"),
    (r"loop\.serving\.packed", "loop.runtime"),
    (r"loop\.serving", "loop.packaging"),
    (r"loop\.delivery\.state", "loop.core.release_state"),
    (r"loop\.delivery\.(?:promote|rollback)", "loop.delivery.canary"),
    (r"loop\.monitoring\.looks", "loop.monitoring.drift"),
    (r"loop\.demo", "loop_demo"),
    (r"loop\.diagnosis", "loop.fork.doctor"),
    (r"loop\.folders", "loop.fork.folders"),
)
IN_ESTIMATORS = (  # the same for an estimator.py with `log_to_mlflow`, the name before 0.2.0
    (r"def log_to_mlflow", "def save_to_mlflow"),
    (r"(mlflow\.\w+)\.log_model", r"\1.save_model"),
)


def params(files: Files) -> Files:
    """Migrate to 0.2.0: move `top_k` and `known_days` to `evaluate.protocol`, `accuracy` to `sla.metrics`."""
    moves = (
        ("evaluate", "top_k", ("evaluate", "protocol")),
        ("split", "known_days", ("evaluate", "protocol")),
        ("monitor", "accuracy", ("sla", "metrics")),
    )
    edited.yaml(files.get("params.yaml", ""), "params.yaml")  # raises LoopError if it is not valid
    yaml, text, moved = YAML(), io.StringIO(), False
    yaml.preserve_quotes, yaml.width = True, 4096
    document = yaml.load(files.get("params.yaml", ""))
    models = document.get("models") if isinstance(document, dict) else None
    for section in (models or {}).values():
        for old, key, to in moves:
            if isinstance(section, dict) and isinstance(part := section.get(old), dict) and key in part:
                value, place, moved = part.pop(key), section, True
                for name in to:
                    if place.get(name) is None:
                        place[name] = {}
                    place = place[name]
                place.setdefault(key, value)
    yaml.dump(document, text)
    return files | {"params.yaml": text.getvalue()} if moved else files


def names(files: Files) -> Files:
    """Migrate to 0.2.0: replace old names in Python files, as listed in MOVED and IN_ESTIMATORS."""
    changed = dict(files)
    for path in (path for path in files if path.endswith(".py")):
        estimator = path.endswith("/estimator.py") and "def log_to_mlflow" in files[path]
        for old, new in (*MOVED, *(IN_ESTIMATORS if estimator else ())):
            changed[path] = re.sub(rf"\b{old}\b", new, changed[path])
    return changed


def servers(files: Files) -> Files:
    """Migrate to 0.2.0: write each released model's kustomization.yaml again.

    The template's manifests now start `loop.runtime.serve`. An image built before 0.2.0 does not contain this
    module, so its kustomization.yaml gets a patch that starts the server's old module.
    """
    changed = {}
    for path, text in files.items():
        if path.endswith("/release.yaml"):
            state = release_state.parse(text, path)
            if state.stable:  # without a release there is no image that needs the patch
                changed[path.replace("release.yaml", "kustomization.yaml")] = release_state.component(state)
    return files | changed


ALL: tuple[Callable[[Files], Files], ...] = (params, names, servers)


def migrated(files: Files) -> Files:
    """Return the files after all migrations. Files that do not match READ are left out."""
    found = {path: text for path, text in files.items() if READ.fullmatch(path)}
    for migration in ALL:
        found = migration(found)
    return found


if __name__ == "__main__":
    json.dump(migrated(json.load(sys.stdin)), sys.stdout)
