"""The models of this repository are complete, whichever they are."""

from collections.abc import Callable
from pathlib import Path

import here
import pytest
from trained import work_tree

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.files import sha256
from loop.fork import doctor


@pytest.mark.contract
@pytest.mark.params
@pytest.mark.sample
def test_every_model_is_whole(repository: Path) -> None:
    """Each model of params.yaml has all keys and all of its folders, and these name no other model."""
    assert [found for found in doctor.models_of(repository) if found.state == "bad"] == []


def replaced(path: str, old: str, new: str) -> Callable[[Path], None]:
    """Return a function that replaces a text in a file."""

    def edit(root: Path) -> None:
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))

    return edit


def edited(key: str, value: object) -> Callable[[Path], None]:
    """Return a function that sets a param of the model, whatever its value in a fork is."""
    return lambda root: params.edit(root, {f"models.card_fraud.{key}": value})


def added(path: str, line: str) -> Callable[[Path], None]:
    """Return a function that adds a line at the end of a file."""

    def edit(root: Path) -> None:
        (root / path).write_text(f"{(root / path).read_text()}{line}\n")

    return edit


def source(content: str) -> Callable[[Path], None]:
    """Return a function that pins a CSV file with this content as the model's source."""

    def pin(root: Path) -> None:
        (path := root / "own.csv").write_text(content)
        edited("ingest", {"source": "own.csv", "sha256": sha256(path)})(root)

    return pin


def without(path: str) -> Callable[[Path], None]:
    return lambda root: (root / path).unlink()


MODEL, OVERLAY = "src/models/card_fraud", "kustomize/overlays/dev/card-fraud"
HEADER = "TRANSACTION_ID,TX_DATETIME,CUSTOMER_ID,TERMINAL_ID,TX_AMOUNT,TX_FRAUD,TX_FRAUD_SCENARIO"
FAULTS = {
    "an unknown task": (replaced(f"{MODEL}/schema.py", '"binary"', '"clustering"'), "TASK is 'clustering'"),
    "a ranking of nobody's rows": (
        lambda root: [
            replaced(f"{MODEL}/schema.py", old, new)(root)
            for old, new in (('"binary"', '"ranking"'), ('    entity="CUSTOMER_ID",\n', ""))
        ],
        "TASK is 'ranking', but ROLES has no entity",
    ),
    "no scorer": (without(f"{MODEL}/scorer.py"), "scorer.py is missing"),
    "a profile that nobody calls": (
        lambda root: (root / f"{MODEL}/scorer.py").open("a").write("def profile(x, scores): ...\n"),
        "scorer.py: profile would never be called",
    ),
    "a role of no column": (
        replaced(f"{MODEL}/schema.py", 'label="TX_FRAUD"', 'label="FRUAD"'),
        "ROLES names unknown columns: 'FRUAD'",
    ),
    "an unknown type": (replaced(f"{MODEL}/schema.py", '"float64"', '"float65"'), "TX_AMOUNT is 'float65'"),
    "an unknown metric": (edited("gate.metric", "avrage_precision"), "gate.metric: avrage_precision"),
    "an unknown floor": (
        edited("gate.floors", {"avrage_precision": 0.4}),
        "gate.floors: avrage_precision",
    ),
    "an unknown target": (edited("sla", {"metrics": {"acuracy": 0.9}}), "sla.metrics: acuracy"),
    "a misspelt key": (edited("train.max_deph", 4), "train.max_deph: is 4"),
    "a key of a module without Params": (
        edited("evaluate.protocol", {"top_k": 9}),
        "evaluate.protocol.top_k: is 9",
    ),
    "a scorer that is not alone": (
        added(f"{MODEL}/scorer.py", "def late():\n    from .features import FEATURES"),
        "src/models/card_fraud/scorer.py:7: `from .features import FEATURES`, but only scorer.py",
    ),
    "no id": (
        replaced(f"{MODEL}/schema.py", '    id="TRANSACTION_ID",\n', ""),
        "missing 1 required positional argument: 'id'",
    ),
    "a string of classes": (
        added(f"{MODEL}/schema.py", 'CLASSES = "No"'),
        "CLASSES is 'No', should be a list",
    ),
    "a set of classes, whose order differs from run to run": (
        added(f"{MODEL}/schema.py", 'CLASSES = {"No"}'),
        "CLASSES is {'No'}, should be a list",
    ),
    "three classes of a binary model": (
        added(f"{MODEL}/schema.py", "CLASSES = (0, 1, 2)"),
        "CLASSES is (0, 1, 2), but TASK is binary",
    ),
    "a list of columns without types": (
        added(f"{MODEL}/schema.py", "COLUMNS = list(COLUMNS)"),
        "'TX_FRAUD_SCENARIO'], should be a dict",
    ),
    "an id that is None": (
        replaced(f"{MODEL}/schema.py", 'id="TRANSACTION_ID"', "id=None"),
        "ROLES names unknown columns: None",
    ),
    "a leak that is no column": (
        replaced(f"{MODEL}/schema.py", '("TX_FRAUD_SCENARIO",)', '("TX_SCENARIO",)'),
        "ROLES names unknown columns: 'TX_SCENARIO'",
    ),
    "a role with the name of the scores": (
        added(f"{MODEL}/schema.py", "COLUMNS['score'], ROLES = 'int8', Roles('CUSTOMER_ID', 'score')"),
        "ROLES names score, but a column of this name holds the model's own scores",
    ),
    "two columns that differ in case": (
        added(f"{MODEL}/schema.py", "COLUMNS['Tx_Amount'] = 'float64'"),
        "COLUMNS has TX_AMOUNT and Tx_Amount, which DuckDB takes for the same column",
    ),
    "a string of columns": (
        replaced(f"{MODEL}/schema.py", '("TX_FRAUD_SCENARIO",)', '("TX_FRAUD_SCENARIO")'),
        "ROLES.never is 'TX_FRAUD_SCENARIO', should be a list",
    ),
    "a split by no time": (
        replaced(f"{MODEL}/schema.py", '    time="TX_DATETIME",\n', ""),
        "split.kind is `time`, but ROLES.time is None",
    ),
    "a split that nobody published": (
        edited("split", {"kind": "published"}),
        "split.kind is `published`, but ROLES.part is None",
    ),
    "an unknown slice": (
        edited("evaluate.slices", ["TX_AMONT"]),
        "evaluate.slices: TX_AMONT is not a feature",
    ),
    "the id as a feature": (
        replaced(f"{MODEL}/features.py", '("TX_AMOUNT", ', '("TRANSACTION_ID", "TX_AMOUNT", '),
        "FEATURES names TRANSACTION_ID, which has a role",
    ),
    "a gap in no feature": (
        added(f"{MODEL}/features.py", 'MISSING = ("TX_AMONT",)'),
        "MISSING names TX_AMONT",
    ),
    "an empty file": (source(""), "own.csv: is empty"),
    "only a header": (source(f"{HEADER}\n"), "own.csv: has no rows"),
    "a lacking column": (source("TX_AMOUNT\n1\n"), "own.csv: column TRANSACTION_ID: is missing"),
    "no source": (without(f"{MODEL}/source.py"), "source.py is missing"),
    "no application": (without("bentos/card_fraud/asgi.py"), "bentos/card_fraud/asgi.py missing"),
    "no lock": (without("bentos/card_fraud/requirements.lock"), "requirements.lock missing"),
    "another's overlay": (
        replaced(f"{OVERLAY}/kustomization.yaml", "card-fraud-dev", "a-dev"),
        "has a-dev",
    ),
    "a broken release": (
        replaced(f"{OVERLAY}/release/release.yaml", "\n  stable:", "\n  stabel:"),
        "spec.stabel",
    ),
    "a folder of no model": (
        lambda root: (root / "kustomize/models/ghost").mkdir(),
        "params.yaml has no model ghost",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_broken_model_is_not_complete(tmp_path: Path, fault: Callable[[Path], None], said: str) -> None:
    """The doctor reports each fault that shows without training, with its place and the fix."""
    work_tree(tmp_path)
    fault(tmp_path)
    with here.models_of(tmp_path):
        bad = [found for found in doctor.models_of(tmp_path) if found.state == "bad"]
    assert len(bad) == 1
    assert said in f"{bad[0].what} {bad[0].found}"
    assert bad[0].fix


@pytest.mark.parametrize(
    "line",
    [
        "from . import schema",
        "import json, models.m.schema",
        "from loop.core import text",
        "import json; import models.m",
    ],
)
def test_a_scorer_imports_only_what_is_packed(tmp_path: Path, line: str) -> None:
    """A scorer may import packages and `loop.runtime`, but no other code of the repository."""
    fine = [
        '"""Scores the rows that come\nfrom models of this kind; import models.m for others."""',
        "import numpy",
        "import loop.runtime.app",
        "from loop import (runtime)",
        "import modelscope",
        'TEXT = """\nimport models.m\n"""',
    ]
    (tmp_path / "scorer.py").write_text("\n".join(fine))
    models._check_imports(tmp_path, "scorer.py")
    (tmp_path / "scorer.py").write_text("\n".join([*fine, line]))
    with pytest.raises(LoopError, match=r"scorer\.py:10: "):
        models._check_imports(tmp_path, "scorer.py")
