"""A model of this repository on its demo's sample: a clone of its own, and the commands up to a candidate."""

import json
from pathlib import Path

from here import models_of
from trained import commit, loop, only

from loop.core.names import public
from loop.core.project import Project
from loop_demo import play


def begun(root: Path, model: str, store: Path) -> Path:
    """A clone that keeps one model, on the source of its demo, with production logged to `store`."""
    only(root, model)
    with models_of(root):
        play.configure(root, model, store, None)
    commit(root, "Begin")
    return root


def rehearsed(root: Path, model: str) -> Path:
    """Train, judge, register, build and rehearse what the params say; returns the bento."""
    for step in ("repro", "gate", "register", "bento", "rehearse"):
        if step == "bento":
            commit(root, "Train it")
        loop(root, step, public(model))
    return Path(json.loads((Project(root, model).build / "bento.json").read_text())["path"])
