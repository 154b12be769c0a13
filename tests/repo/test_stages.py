"""dvc.yaml lists the real dependencies of each stage; a change of anything else trains nothing again."""

import re
import shutil

import pytest
from ruamel.yaml import YAML

from loop.core import dvc, paths
from loop.pipeline import fingerprints

PARTS = r"\bfolder\.(schema|source|expectations|features|estimator|scorer|roles|task|classes)\b"

STAGES = dvc.ours(paths.root())
OF = {"roles": "schema", "task": "schema", "classes": "schema"}  # the module that defines each of these


def test_dvc_runs_every_stage(repository):
    """A module of loop.pipeline with a `main` is a stage of dvc.yaml, so none is written and never run."""
    modules = (repository / "src/loop/pipeline").glob("*.py")
    assert {each.stem for each in modules if "\ndef main(" in each.read_text()} == {*STAGES}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_what_it_reads(repository, stage):
    """A stage depends on the fingerprint of the engine's modules that it runs, and on the model's modules."""
    deps = YAML(typ="safe").load(repository / "dvc.yaml")["stages"][stage]["do"]["deps"]
    recorded = (repository / fingerprints.FOLDER / stage).read_text()
    assert recorded == fingerprints.text(repository, stage)
    paths = [line.split()[-1] for line in recorded.splitlines()[1:]]
    assert f"loop/pipeline/{stage}.py" in paths
    text = "".join((repository / "src" / path).read_text() for path in paths)
    parts = {OF.get(part, part) for part in re.findall(PARTS, text)}
    assert {f"{fingerprints.FOLDER}/{stage}", *(f"src/models/${{key}}/{part}.py" for part in parts)} <= set(
        deps
    )


@pytest.mark.parametrize(
    ("changed", "stages"),
    [
        ("pipeline/plots.py", ["evaluate"]),
        ("pipeline/validation.html.j2", ["validate"]),
        ("runtime/vectors.py", ["train", "evaluate"]),
        ("delivery/steps.py", []),
    ],
)
def test_a_change_of_the_engine_reaches_only_the_stages_that_run_it(repository, tmp_path, changed, stages):
    """A changed module or page template changes the fingerprints of the stages that use it, and no others."""
    shutil.copytree(
        repository / "src/loop", tmp_path / "src/loop", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(repository / "dvc.yaml", tmp_path)
    fingerprints.write(tmp_path)
    assert fingerprints.write(tmp_path) == []
    with (tmp_path / "src/loop" / changed).open("a") as file:
        file.write("\nCHANGED = 1\n")
    assert fingerprints.write(tmp_path) == [f"{fingerprints.FOLDER}/{stage}" for stage in stages]


BEFORE = '''"""Module."""

class A:
    """Class."""

    def f(self):
        """Function,
        over lines."""
        return f"""# no comment {self}

end""", 7  # a comment
'''


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("a comment", "another", True),
        ("class A", "# one more line\n\nclass A", True),
        ("Module", "Another module", True),
        ("over lines", "over\n\n        three lines", True),
        ("7", "8", False),
        ("# no comment", "# a text", False),
        ("\n\nend", "\nend", False),
        ("self)", "self, x=1)", False),
    ],
)
def test_comments_are_not_part_of_a_fingerprint(tmp_path, old, new, same):
    """A changed comment, docstring or empty line trains nothing again, but a changed number or text does."""
    module = tmp_path / "src/loop/pipeline/ingest.py"
    module.parent.mkdir(parents=True)
    module.write_text(BEFORE)
    before = fingerprints.text(tmp_path, "ingest")
    assert BEFORE.count(old) == 1
    module.write_text(BEFORE.replace(old, new))
    assert (fingerprints.text(tmp_path, "ingest") == before) is same


def test_every_python_gives_the_same_fingerprint(tmp_path):
    """A fingerprint is the same in every Python; 3.11, 3.12 and 3.13 gave this digest."""
    module = tmp_path / "src/loop/pipeline/ingest.py"
    module.parent.mkdir(parents=True)
    module.write_text(BEFORE)
    digest = "c7b47609d133e3aaf7a0a39a9e108034c6fcf539d779be782fd07fb9e79e80a5"
    assert fingerprints.text(tmp_path, "ingest").splitlines()[1] == f"{digest}  loop/pipeline/ingest.py"
