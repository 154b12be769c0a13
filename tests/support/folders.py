"""A model's folder with some of its modules replaced."""

import dataclasses

from loop.core.models import ModelFolder


def with_modules(folder: ModelFolder, **modules: object) -> ModelFolder:
    """A copy of the folder, with these objects in place of its modules of those names."""
    copy = dataclasses.replace(folder)
    vars(copy).update(modules)
    return copy
