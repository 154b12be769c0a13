"""Reads the records in build/<package>/ that commands write for each other."""

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.project import Project

MONITOR = "monitor"  # in place of a model, the image of the canary judge and the drift job
R = TypeVar("R")


def record(project: Project, kind: type[R], name: str = "") -> R:
    """Return one record; by default the class names the file, so `Gate` reads gate.json.

    Raises LoopError, with the command that writes the record, if the file is missing or invalid.
    """
    name = name or kind.__name__.lower()
    path, fix = project.build / f"{name}.json", command(project, name)
    if not path.is_file():
        raise LoopError(f"{path} does not exist", fix=fix)
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except (ValidationError, ValueError) as error:
        raise LoopError(f"{path}: {error}", fix=fix) from error


def command(project: Project, name: str) -> str:
    """Return the command that writes a record or, for instance by `push-image`, makes the next step."""
    if project.model != MONITOR:
        return f"./loop {name} {project.public}"
    return f"./loop {'monitor-image' if name == 'image' else name}"
