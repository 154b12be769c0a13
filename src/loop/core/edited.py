"""Files that people edit and merge, read so that a mistake is named by file, line and fix."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from datetime import date
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.text import one_line

MARKER = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)  # `=======` alone may be text
WIDE = 10_000  # characters: a long line stays one, so that only what was asked for differs
# What a parser raises on text that is no YAML, or has a value that is none of its type, as 2018-99-99.
FAULTS = (YAMLError, AttributeError, LookupError, TypeError, ValueError, RecursionError, OverflowError)


def read(path: Path, where: str, fix: str) -> str:
    """A file's text; LoopError where it is none, or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise LoopError(f"{where}: does not exist", fix=fix) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LoopError(f"{where}: line {line}: is not UTF-8", fix=fix) from error


def yaml(text: str, where: str, fix: str = "correct that line") -> Any:
    """The one YAML document of a text; LoopError names `where`, the line and `fix`."""
    return _parsed(text, where, fix, lambda: YAML(typ="safe").load(text))


def yamls(text: str, where: str, fix: str = "correct that line") -> list[Any]:
    """Every YAML document of a text; LoopError names `where`, the line and `fix`."""
    return list(_parsed(text, where, fix, lambda: list(YAML(typ="safe").load_all(text))))


def merged(text: str, where: str, fix: str) -> str:
    """The text itself; LoopError where a merge has left its conflict markers in it."""
    if found := MARKER.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise LoopError(f"{where}: line {line}: a merge has left its conflict markers here", fix=fix)
    return text


def line_of(text: str, *keys: str | int) -> int | None:
    """The line of a key in a YAML text, or of the nearest key around it; None where there is none."""
    try:
        node: Node | None = YAML().compose(text)
    except FAULTS:
        return None
    line = None
    for key in keys:
        found = _entry(node, key)
        if found is None:
            continue  # as the name of a union's part, which the text does not have
        line, node = found[0].start_mark.line + 1, found[1]
    return line


def said(text: str, *keys: str | int) -> str:
    """`line 5: ` for a message; empty where the text does not have the key."""
    return f"line {line}: " if (line := line_of(text, *keys)) else ""


def sections(text: str, where: str) -> dict[str, Any]:
    """The text of a params.yaml as plain data; errors name it as `where`."""
    return deepcopy(_sections(text, where))


@lru_cache(maxsize=8)  # a command asks the same text many times
def _sections(text: str, where: str) -> dict[str, Any]:
    document = yaml(text, where)
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict):
        found = type(models).__name__ if isinstance(document, dict) and "models" in document else "nothing"
        fix = "it must be YAML with a top-level `models:`, which has a section for each model"
        raise LoopError(f"{where}: {said(text, 'models')}models: is {found}", fix=fix)
    for keys, value in _dates(models, ("models",)):
        key = ".".join(map(str, keys))
        raise LoopError(
            f"{where}: {said(text, *keys)}{key}: is a date without quotes; DVC takes text only",
            fix=f"write it in quotes: '{value.isoformat()}'",
        )
    return {str(name): section for name, section in models.items()}


@contextmanager
def rewriting(path: Path, width: int = WIDE) -> Iterator[Any]:
    """Yield a YAML file's document to be changed in place, then replace the file; comments and order stay.

    Longer lines than `width` are folded. An error inside the block leaves the file as it was.
    """
    writer = _writer(width)
    document = writer.load(path.read_text(encoding="utf-8"))
    yield document
    with whole(path) as aside, aside.open("w", encoding="utf-8") as file:
        writer.dump(document, file)


def plain(node: Any) -> Any:
    """Convert a node of that document to plain dicts, lists and scalars."""
    text = StringIO()
    _writer().dump(node, text)
    return YAML(typ="safe").load(text.getvalue())


def _writer(width: int = WIDE) -> YAML:
    writer = YAML()
    writer.preserve_quotes = True
    writer.width = width
    return writer


def _dates(
    node: Any, keys: tuple[str | int, ...], seen: set[int] | None = None
) -> Iterator[tuple[tuple[str | int, ...], date]]:
    """Each date in a document and the keys that lead to it. An alias of YAML is followed once."""
    seen = set() if seen is None else seen
    if isinstance(node, date):  # a datetime is one too
        yield keys, node
    elif isinstance(node, dict | list) and id(node) not in seen:
        seen.add(id(node))
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _dates(value, (*keys, key), seen)


def _entry(node: Node | None, key: str | int) -> tuple[Node, Node] | None:
    if isinstance(node, MappingNode):
        return next(((name, value) for name, value in node.value if name.value == str(key)), None)
    if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key]
    return None


def _parsed(text: str, where: str, fix: str, parse: Callable[[], Any]) -> Any:
    merged(text, where, f"keep one side of each conflict; {fix}")
    try:
        return parse()
    except FAULTS as error:
        raise LoopError(f"{where}: {_problem(error)}", fix=fix) from None


def _problem(error: Exception) -> str:
    """What is wrong, and on which line, without an excerpt of the file: it may hold a credential."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = one_line(error.problem or error.context or "is no YAML").partition(" with value ")[0]
        hint = "; indent by spaces" if "\\t" in said else ""
        return f"line {mark.line + 1}: {said}{hint}" if mark else said
    if isinstance(error, RecursionError):
        return "is nested too deep"
    return f"is no YAML: {one_line(str(error))}"
