"""Reads files that people edit and merge. Errors name the file, the line and the fix."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from loop.core.errors import LoopError
from loop.core.files import whole
from loop.core.text import one_line

# The marker `=======` is not searched for, because it also occurs in ordinary text.
MARKER = re.compile(r"^(?:<{7}|\|{7}|>{7})(?: |$)", re.MULTILINE)
# Errors that YAML parsers raise for invalid YAML, or for an impossible value such as the date 2018-99-99.
FAULTS = (YAMLError, AttributeError, LookupError, TypeError, ValueError, RecursionError, OverflowError)


def read(path: Path, where: str, fix: str, merged: str = "") -> str:
    """Return a file's text. Raises LoopError if it does not exist, is not UTF-8, or has conflict markers.

    `merged` is what must follow in a generated file after one side of each conflict was kept.
    """
    try:
        return _merged(path.read_text(encoding="utf-8"), where, merged)
    except FileNotFoundError as error:
        raise LoopError(f"{where}: does not exist", fix=fix) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise LoopError(f"{where}: line {line}: is not UTF-8", fix=fix) from error


def yaml(text: str, where: str, fix: str = "correct that line") -> Any:
    """Return the only YAML document of a text. LoopErrors name `where`, the line and `fix`."""
    return _parsed(text, where, fix, lambda: YAML(typ="safe").load(text))


def yamls(text: str, where: str, fix: str = "correct that line") -> list[Any]:
    """Return all YAML documents of a text. LoopErrors name `where`, the line and `fix`."""
    return list(_parsed(text, where, fix, lambda: list(YAML(typ="safe").load_all(text))))


def locked(path: Path) -> list[str]:
    """Return the requirements of a hashed lock file, such as `six==1.17.0`, each with its marker if any."""
    text = read(path, str(path), "make lock", "make lock")
    return re.findall(r"^[A-Za-z0-9._-]+==[^\\\n]+?(?= *\\?$)", text, re.MULTILINE)


def said(text: str, *keys: str | int) -> str:
    """Return `line 5: ` for a key in a YAML text, or for its nearest parent; empty if neither is found."""
    line = 0
    node: Any = None
    with suppress(*FAULTS):
        node = YAML().load(text)
    for key in keys:
        with suppress(*FAULTS):  # pydantic inserts a key for each union, which the text does not contain
            line, node = node.lc.data[key][0] + 1, node[key]
    return f"line {line}: " if line else ""


def sections(text: str, where: str) -> dict[str, Any]:
    """Return the `models:` section of a params.yaml's text. Raises LoopError if it is missing or invalid."""
    return deepcopy(_sections(text, where))


@lru_cache(maxsize=8)  # cached, because a command parses the same file many times
def _sections(text: str, where: str) -> dict[str, Any]:
    reader = YAML(typ="safe")
    reader.Constructor = _Dateless
    document = _parsed(text, where, "correct that line", lambda: reader.load(text))
    models = document.get("models") if isinstance(document, dict) else None
    if not isinstance(models, dict):
        fix = "write a top-level `models:` with a section for each model"
        raise LoopError(f"{where}: {said(text, 'models')}models: is missing or not a section", fix=fix)
    return {str(name): section for name, section in models.items()}


@contextmanager
def rewriting(path: Path) -> Iterator[Any]:
    """Yield a YAML file's document for changes in place, then write it back with its comments and order.

    Its line ends stay, too. If the block raises an error, the file does not change.
    """
    writer = YAML()
    writer.preserve_quotes = True
    writer.width = 10_000  # so large that no long line is folded that was not edited
    ends = "\r\n" if b"\r\n" in path.read_bytes() else "\n"
    document = writer.load(path.read_text(encoding="utf-8"))
    yield document
    with whole(path) as aside, aside.open("w", encoding="utf-8", newline=ends) as file:
        writer.dump(document, file)


def block(document: Any) -> str:
    """Return plain dicts, lists and scalars as YAML, with each entry on a line of its own."""
    writer, text = YAML(typ="safe", pure=True), StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.width = 1000
    writer.dump(document, text)
    return text.getvalue()


class _Dateless(SafeConstructor):
    """Constructs the values of params.yaml, in which a date needs quotes."""

    def refuse(self, node: Node) -> None:
        said = f"{node.value} is a date without quotes, which DVC cannot read; write '{node.value}'"
        raise ConstructorError(problem=said, problem_mark=node.start_mark)


_Dateless.add_constructor("tag:yaml.org,2002:timestamp", _Dateless.refuse)


def _merged(text: str, where: str, then: str = "") -> str:
    """Return the text. Raises LoopError if it contains the conflict markers of a merge."""
    if found := MARKER.search(text):
        line = text.count("\n", 0, found.start()) + 1
        said = f"{where}: line {line}: contains the conflict markers of a merge"
        raise LoopError(said, fix=f"keep one side of each conflict{then and f', then {then}'}")
    return text


def _parsed(text: str, where: str, fix: str, parse: Callable[[], Any]) -> Any:
    _merged(text, where)
    try:
        return parse()
    except FAULTS as error:
        raise LoopError(f"{where}: {_problem(error)}", fix=fix) from None


def _problem(error: Exception) -> str:
    """Describe a parser's error with its line, but without the file's text: it may contain a credential."""
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        said = one_line(error.problem or error.context or "is not valid YAML").partition(" with value ")[0]
        hint = "; indent with spaces" if "\\t" in said else ""
        return f"line {mark.line + 1}: {said}{hint}" if mark else said
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    return f"is not valid YAML: {one_line(str(error))}"
