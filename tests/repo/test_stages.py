"""dvc.yaml's dependencies are those that the code has: what is not listed, a change of it trains nothing."""

import ast
import re

import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.sample

SRC = {
    "loop.pipeline",
    "loop.stats",
    "loop.runtime",
}  # a stage runs again when these change; loop.core is its framework
STAGES = ("ingest", "validate", "features", "train", "evaluate")
PARTS = r"\bfolder\.(schema|source|expectations|features|estimator|scorer|roles|task|classes)\b"

OF = {"roles": "schema", "task": "schema", "classes": "schema"}  # whose they are


def imported(repository, module, found=frozenset()):
    """The modules of SRC that a module imports, and what those import; itself too."""
    tree = ast.parse((repository / "src" / f"{module.replace('.', '/')}.py").read_text())
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module]
    names = {f"{node.module}.{name.name}" for node in nodes if node.module in SRC for name in node.names}
    names |= {node.module for node in nodes if node.module.rpartition(".")[0] in SRC}
    found |= {module}
    for name in names - found:
        found |= imported(repository, name, found)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_reads(repository, stage):
    """Each module of the pipeline that it imports, and each of the model's that it asks for something."""
    deps = YAML(typ="safe").load(repository / "dvc.yaml")["stages"][stage]["do"]["deps"]
    modules = imported(repository, f"loop.pipeline.{stage}")
    paths = [f"src/{module.replace('.', '/')}.py" for module in modules]
    text = "".join((repository / path).read_text() for path in paths)
    parts = {OF.get(part, part) for part in re.findall(PARTS, text)}
    wanted = {*paths, *(f"src/models/${{key}}/{part}.py" for part in parts)}
    assert wanted <= set(deps)
