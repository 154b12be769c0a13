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

from loop.core import dvc
from loop.core.errors import LoopError
from loop.core.files import write_text
from loop.core.paths import library

FOLDER = ".loop/stages"
PACKAGES = ("loop.pipeline", "loop.stats", "loop.runtime")  # packages whose modules affect results
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
TEMPLATE = re.compile(r"[\w./]+\.html\.j2")
HEADER = (
    "# The engine's files that this stage runs, with the SHA-256 of their code without comments."
    " `loop repro` writes it; commit it.\n"
)


def write(root: Path) -> list[str]:
    """Update the fingerprint files of all stages in dvc.yaml; returns the paths of those that changed."""
    changed = []
    for stage in dvc.ours(root):
        path, new = root / FOLDER / stage, text(root, stage)
        if not path.is_file() or path.read_text(encoding="utf-8") != new:
            write_text(path, new)
            changed.append(f"{FOLDER}/{stage}")
    return changed


def text(root: Path, stage: str) -> str:
    """Return the text of a stage's fingerprint file: one line for each of the engine's files that it runs."""
    above, module = library(root).parent, Path("loop", "pipeline", f"{stage}.py")
    if not (above / module).is_file():
        raise LoopError(f"{above / module}: is missing, but dvc.yaml has a stage {stage}", fix=dvc.STAGES)
    files = sorted(_files(above, module, frozenset()))
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
    for node in ast.walk(tree):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            start, end = node.body[0].lineno - 1, node.body[0].end_lineno or node.body[0].lineno
            lines[start:end] = [b""] * (end - start)
            kept -= set(range(start, end))
    return b"".join(
        (line if row + 1 in kept else line.rstrip()) + b"\n"
        for row, line in enumerate(lines)
        if row in kept or line.strip()
    )


def _files(above: Path, path: Path, found: frozenset[Path]) -> frozenset[Path]:
    """Return a module or page template and all it imports or includes from PACKAGES, relative to `above`."""
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
    """Return modules of PACKAGES that a source text imports, anywhere; some of the names are functions."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{each.name}" for node in nodes if node.module in PACKAGES for each in node.names}
    return names | {str(node.module) for node in nodes if str(node.module).rpartition(".")[0] in PACKAGES}
