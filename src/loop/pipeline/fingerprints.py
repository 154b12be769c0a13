"""Writes the files .loop/stages/<stage>, which dvc.yaml lists as the stages' dependency on the engine.

Each file lists the engine's modules that a stage runs, with hashes of their code. An upgrade then reruns only
the stages whose modules changed, from source code as from a wheel. The hash leaves out comments, docstrings
and empty lines. `loop.core` is not listed, because it runs the stages but does not affect their results.
"""

import ast
import re
import tokenize
from hashlib import sha256
from io import BytesIO
from pathlib import Path

from loop.core.files import write_text
from loop.core.paths import library

FOLDER = ".loop/stages"
STAGES = ("ingest", "validate", "features", "train", "evaluate")
ROOMS = ("loop.pipeline", "loop.stats", "loop.runtime")  # packages whose modules affect results
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
TEMPLATE = re.compile(r"[\w./]+\.html\.j2")
HEADER = (
    "# The engine's files that this stage runs, with the SHA-256 of their code without comments."
    " `loop repro` writes it; commit it.\n"
)


def write(root: Path) -> list[str]:
    """Update the fingerprint files of all stages; returns the paths of those that changed."""
    texts = {f"{FOLDER}/{stage}": text(root, stage) for stage in STAGES}
    changed = [path for path, new in texts.items() if not _is(root / path, new)]
    for path in changed:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(root / path, texts[path])
    return changed


def text(root: Path, stage: str) -> str:
    """Return the text of a stage's fingerprint file: one line for each of the engine's files that it runs."""
    above = library(root).parent
    files = sorted(_files(above, Path("loop", "pipeline", f"{stage}.py"), frozenset()))
    return HEADER + "".join(f"{sha256(_code(above / path)).hexdigest()}  {path}\n" for path in files)


def _code(path: Path) -> bytes:
    """Return the bytes of a file to hash: a module without its comments, docstrings and empty lines.

    Only positions come from Python's parser, so every version of Python returns the same bytes.
    """
    source = path.read_bytes()
    if path.suffix != ".py":
        return source
    tree, lines = ast.parse(source), source.splitlines()
    for token in tokenize.tokenize(BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = lines[token.start[0] - 1]
            lines[token.start[0] - 1] = line.removesuffix(token.string.encode())
    kept: set[int] = set()  # lines that begin inside a string, where spaces count
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            kept |= set(range(node.lineno, node.end_lineno or node.lineno))
    for start, end in _docstrings(tree):
        lines[start - 1 : end] = [b""] * (end - start + 1)
        kept -= set(range(start - 1, end))
    return b"".join(
        (line if row + 1 in kept else line.rstrip()) + b"\n"
        for row, line in enumerate(lines)
        if row in kept or line.strip()
    )


def _docstrings(tree: ast.AST) -> list[tuple[int, int]]:
    """Return the first and last line of each docstring in a module."""
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, Documented)]
    first = [body[0].value for body in bodies if body and isinstance(body[0], ast.Expr)]
    texts = [node for node in first if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [(node.lineno, node.end_lineno or node.lineno) for node in texts]


def _files(above: Path, path: Path, found: frozenset[Path]) -> frozenset[Path]:
    """Return a module or page template and all it imports or includes from ROOMS, relative to `above`."""
    found |= {path}
    source = (above / path).read_text(encoding="utf-8")
    needed = {path.with_name(name) for name in TEMPLATE.findall(source)}
    if path.suffix == ".py":
        needed |= {Path(*name.split(".")).with_suffix(".py") for name in _imports(source)}
    for each in sorted(needed - found):
        if (above / each).is_file() and each not in found:
            found |= _files(above, each, found)
    return found


def _imports(source: str) -> set[str]:
    """Return the modules of ROOMS that a source text may import, including imports inside functions.

    Some of the returned names are functions, not modules; the caller ignores names without a file.
    """
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{each.name}" for node in nodes if node.module in ROOMS for each in node.names}
    return names | {str(node.module) for node in nodes if str(node.module).rpartition(".")[0] in ROOMS}


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text
