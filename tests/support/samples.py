"""A clone with one model of this repository on its demo's sample, and the commands up to a candidate."""

import json
from pathlib import Path

from here import models_of
from trained import commit, loop, only

from loop.core import params
from loop.core.names import public
from loop.core.project import Project
from loop_demo import play


def begun(root: Path, model: str, store: Path) -> Path:
    """Make a clone with one model, which reads its demo's source and logs production to `store`."""
    only(root, model)
    with models_of(root):
        play.configure(root, model, store, None)
    short = {"requests": 50, "max_p99_ratio": 1000}  # the p99 of so few requests is not comparable
    params.edit(root, {f"models.{model}.rehearse.{key}": value for key, value in short.items()})
    commit(root, "Begin")
    return root


def rehearsed(root: Path, model: str) -> Path:
    """Train, gate, register, build and rehearse the model, and return the bento."""
    for step in ("repro", "gate", "register", "bento", "rehearse"):
        if step == "bento":
            commit(root, "Train it")
        loop(root, step, public(model))
    return Path(json.loads((Project(root, model).build / "bento.json").read_text())["path"])
