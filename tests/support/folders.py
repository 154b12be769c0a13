"""A model's folder with some of its modules replaced."""

import dataclasses

from loop.core.models import ModelFolder


def with_modules(folder: ModelFolder, **modules: object) -> ModelFolder:
    """Return a copy of the folder in which the named modules are replaced by these objects."""
    copy = dataclasses.replace(folder)
    vars(copy).update(modules)
    return copy
