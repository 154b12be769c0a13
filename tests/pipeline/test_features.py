"""The same rows give the same table of features, and an invalid table is refused."""

import dataclasses

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from folders import with_modules
from frames import payments

from loop.core import models
from loop.core.errors import LoopError
from loop.core.project import Project
from loop.pipeline import features as stage
from loop.pipeline.features import compute


@pytest.fixture(scope="module")
def folder(template):
    return models.load(template, "card_fraud")


def test_same_rows_samepayments(folder):
    """Rows are sorted by time, then by id, in whatever order they came."""
    table = payments([(500, 1, 1, 100, 0), (500, 1, 1, 300, 1), (0, 2, 1, 200, None)])
    params = folder.features.Params()
    out = compute(folder, table, params)
    assert out["TRANSACTION_ID"].to_pylist() == [2, 0, 1]
    assert out.equals(compute(folder, table.take([1, 2, 0]), params))


def test_a_column_that_explains_the_label_is_refused(folder):
    """A feature that the schema names in `never` stops the stage."""
    roles = dataclasses.replace(folder.roles, never=("TX_AMOUNT",))
    schema = type("schema", (), {"ROLES": roles})
    leaky = with_modules(folder, schema=schema)
    with pytest.raises(LoopError, match="TX_AMOUNT"):
        compute(leaky, payments([(0, 1, 1, 100, 0)]), folder.features.Params())


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_feature_that_is_no_number_is_refused(folder, value):
    """The error names the feature, the number of rows without a finite value, and the first of them."""
    table = payments([(0, 1, 1, 100, 0), (9, 1, 1, 100, 0)])
    amounts = table.schema.get_field_index("TX_AMOUNT")
    table = table.set_column(amounts, "TX_AMOUNT", pa.array([1.0, value], pa.float64()))
    raw = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD", "TX_AMOUNT")
    features = type("features", (), {"compute": staticmethod(lambda rows, _: rows.select(*raw))})
    with pytest.raises(LoopError, match=r"TX_AMOUNT is null or not finite in 1 of 2 rows, .* is 1\b"):
        compute(with_modules(folder, features=features), table, None)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            lambda rows: rows.mutate(day=rows["TX_DATETIME"].date()),
            "day is a column of date, which no request can carry",
        ),
        (lambda rows: rows.drop("TX_FRAUD"), "`compute` returns no TX_FRAUD"),
        (lambda rows: rows.mutate(score=rows["TX_AMOUNT"]), "a feature is named score"),
        (
            lambda rows: rows.mutate(odd=(rows["TX_AMOUNT"].cast("string") + "x").cast("float64")),
            "Conversion Error: .*x",
        ),
    ],
    ids=["a date", "no label", "a score", "an expression that fails"],
)
def test_what_is_no_table_of_features_is_named(folder, made, said):
    """An invalid table is an error that names the team's file, not a traceback of the engine."""
    features = type(
        "features", (), {"compute": staticmethod(lambda rows, _: made(rows.drop("TX_FRAUD_SCENARIO")))}
    )
    other = with_modules(folder, features=features, schema=folder.schema)
    with pytest.raises(LoopError, match=rf"src/models/{folder.name}/features\.py: {said}"):
        compute(other, payments([(0, 1, 1, 500, 0)]), None)


def test_rows_that_the_features_leave_out_are_counted(clone, monkeypatch, capsys):
    """If a model's `compute` returns fewer rows than there are, the stage says how many are missing."""
    project = Project(clone, "card-fraud")
    project.raw.parent.mkdir(parents=True)
    pq.write_table(payments([(second, 1, 1, 100, 0) for second in range(9)]), project.raw)
    monkeypatch.setattr(stage, "compute", lambda _, table, __: table.slice(2))
    stage.main(project)
    assert capsys.readouterr().out == "7 rows, 7 columns; features.py leaves out 2 rows\n"
