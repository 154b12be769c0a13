"""Training gives the same bytes each time, and records what the model was trained on."""

import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from folders import with_modules
from hypothesis import assume, given
from hypothesis import strategies as st

from loop.core import models
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.models import Roles
from loop.core.params import RandomSplit, TimeSplit
from loop.pipeline import split
from loop.pipeline.train import edges, train

SPLIT = TimeSplit(until="2018-05-15T00:00:00", train_days=20, delay_days=7, test_days=7)
NAMES = ["TX_AMOUNT", "TERMINAL_ID_RISK_7DAY_WINDOW"]


@pytest.fixture(scope="module")
def folder(template):
    return models.load(template, "card_fraud")


@pytest.fixture(scope="module")
def params(folder):
    return folder.estimator.Params(n_estimators=20, max_depth=4, subsample=0.8)


@pytest.fixture
def table(rows=6000):
    """Return features of 45 days from 2018-04-01, in which large amounts are mostly fraud."""
    rng = np.random.default_rng(0)
    amount, risk = rng.gamma(2, 40, rows), rng.random(rows)
    fraud = (rng.random(rows) < np.where(amount > 200, 0.7, 0.01)).astype(np.int8)
    minutes = np.sort(rng.integers(0, 45 * 24 * 60, rows)).astype("timedelta64[m]")
    return pa.table({
        "TRANSACTION_ID": np.arange(rows),
        "TX_DATETIME": pa.array(np.datetime64("2018-04-01", "us") + minutes, pa.timestamp("us")),
        "CUSTOMER_ID": pa.array(rng.integers(0, 300, rows), pa.int32()),
        "TX_FRAUD": pa.array(fraud, mask=rng.random(rows) < 0.01),
        **dict(zip(NAMES, (amount, risk), strict=True)),
    })  # fmt: skip


def _bytes(out):
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_same_rows_same_bytes(folder, table, params, tmp_path):
    """Training twice on the same rows gives a byte-identical folder and the same reference."""
    first, again = (
        train(folder, table, SPLIT, params, threshold=0.5, out=tmp_path / name) for name in ("first", "again")
    )
    assert _bytes(tmp_path / "first") == _bytes(tmp_path / "again")
    assert first.equals(again)


def test_meta_tells_a_scorer_what_it_must_know(folder, table, params, tmp_path):
    """meta.json has the features in order, the classes, the threshold and the training window."""
    reference = train(folder, table, SPLIT, params, threshold=0.4, out=tmp_path / "model")
    meta = read_json(tmp_path / "model" / "meta.json")
    trained = split.masks(table, folder.roles, SPLIT)[0]
    assert meta["features"] == NAMES
    assert (meta["classes"], meta["threshold"]) == ([0, 1], 0.4)
    assert meta["trained"]["rows"] == trained.sum() == reference.num_rows
    assert "2018-04-11T00" <= meta["trained"]["from"] < meta["trained"]["to"] < "2018-05-01T00"
    assert reference.column_names == [*NAMES, "score", "TX_FRAUD"]
    assert meta["example"] == [reference[name][0].as_py() for name in NAMES]


def test_it_learns(folder, table, params, tmp_path):
    """The loaded scorer returns probabilities, which are higher for large amounts."""
    train(folder, table, SPLIT, params, threshold=0.5, out=tmp_path / "model")
    x = np.array([[300.0, 0.5], [20.0, 0.5]], dtype=np.float32)
    large, small = folder.scorer.load(tmp_path / "model")(x)
    assert 0 < small < 0.1
    assert 0.4 < large < 1


def test_a_window_of_one_class_is_refused(folder, table, params, tmp_path):
    """Without a fraud in the training window, the stage stops, names the labels, and leaves no model."""
    honest = table.set_column(3, "TX_FRAUD", pa.array(np.zeros(len(table)), pa.int8()))
    with pytest.raises(LoopError, match=r"labels \[0\]"):
        train(folder, honest, SPLIT, params, threshold=0.5, out=tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_scoring_needs_no_pandas(folder, table, params, tmp_path, monkeypatch):
    """The saved model loads and scores even if pandas cannot be imported."""
    train(folder, table, SPLIT, params, threshold=0.5, out=tmp_path / "model")
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert folder.scorer.load(tmp_path / "model")(np.zeros((3, 2))).shape == (3,)


def test_several_classes_without_time(folder, tmp_path):
    """A model whose classes are words trains with a random split, without a column of times."""
    prior = np.array([0.5, 0.3, 0.2])
    estimator = type("estimator", (), {
        "fit": staticmethod(lambda _x, y, _params: np.bincount(y)),
        "save": staticmethod(lambda counts, out: np.save(out / "counts.npy", counts)),
        "load": staticmethod(lambda _: lambda x: np.tile(prior, (len(x), 1))),
    })  # fmt: skip
    schema = type("schema", (), {"ROLES": Roles(id="id", label="label"), "TASK": "multiclass"})
    animals = with_modules(folder, schema=schema, estimator=estimator, scorer=estimator)
    rows = pa.table({"id": range(30), "label": ["owl", "cat", "dog"] * 10, "weight": np.arange(30.0)})
    kind = RandomSplit(kind="random", test=0.2)
    reference = train(animals, rows, kind, None, threshold=0.5, out=tmp_path / "model")
    meta = read_json(tmp_path / "model" / "meta.json")
    assert meta["classes"] == ["cat", "dog", "owl"]
    assert meta["trained"] == {"from": None, "to": None, "rows": 24}
    assert reference.column_names == ["weight", "score", "label"]
    assert np.load(tmp_path / "model" / "counts.npy").sum() == 24


def regression(folder, label):
    """Return a model that predicts twice its feature, and rows with these labels."""
    estimator = type("estimator", (), {
        "fit": staticmethod(lambda _x, y, _params: y),
        "save": staticmethod(lambda y, out: np.save(out / "labels.npy", y)),
        "load": staticmethod(lambda _: lambda x: 2 * x[:, 0]),
    })  # fmt: skip
    schema = type("schema", (), {"ROLES": Roles(id="id", label="label"), "TASK": "regression"})
    rows = pa.table({"id": range(30), "label": label, "weight": np.arange(30.0)})
    return with_modules(folder, schema=schema, estimator=estimator, scorer=estimator), rows


def test_a_regression_keeps_its_values(folder, tmp_path):
    """Labels reach the estimator as they are; meta.json has edges, but no class and no threshold."""
    model, rows = regression(folder, np.arange(30) / 2)
    kind = RandomSplit(kind="random", test=0.2)
    reference = train(model, rows, kind, None, threshold=None, out=tmp_path / "model")
    meta = read_json(tmp_path / "model" / "meta.json")
    assert (meta["classes"], meta["threshold"]) == ([], None)
    assert set(np.load(tmp_path / "model" / "labels.npy")) <= set(np.arange(30) / 2)
    assert reference["score"].to_pylist() == [2 * weight for weight in reference["weight"].to_pylist()]
    steps = np.diff(meta["score_edges"])
    assert 10 <= len(steps) <= 22
    assert steps == pytest.approx(np.full(len(steps), steps[0]))


@pytest.mark.parametrize(("classes", "label"), [((0, 1), [False, True]), ((False, True), [0, 1])])
def test_classes_may_be_numbers_of_booleans(folder, tmp_path, classes, label):
    """0 and 1 in CLASSES mean False and True of a bool column, and the other way round."""
    model, rows = regression(folder, label * 15)
    names = {"ROLES": Roles(id="id", label="label"), "TASK": "binary", "CLASSES": classes}
    half = type("scorer", (), {"load": staticmethod(lambda _: lambda x: x[:, 0] / 30)})
    binary = with_modules(folder, schema=type("schema", (), names), estimator=model.estimator, scorer=half)
    train(binary, rows, RandomSplit(kind="random", test=0.2), None, threshold=0.5, out=tmp_path / "m")
    assert read_json(tmp_path / "m" / "meta.json")["classes"] == label
    assert set(np.load(tmp_path / "m" / "labels.npy")) == {0, 1}


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (["low", "high"] * 15, "labels of type string, but a regression needs numbers"),
        ([7.0] * 30, r"labels 7\.0, expected different finite numbers"),
        ([1.0, float("nan"), 3.0] * 10, "expected different finite numbers"),
    ],
)
def test_labels_that_are_no_values_are_an_error(folder, tmp_path, label, said):
    """A regression's labels must be different finite numbers; otherwise training stops with an error."""
    model, rows = regression(folder, label)
    with pytest.raises(LoopError, match=said):
        train(model, rows, RandomSplit(kind="random", test=0.2), None, threshold=None, out=tmp_path / "model")


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0.98, 1.02))
def test_releases_that_predict_alike_share_edges(low, width, moved):
    """Similar predictions share at least half of their edges, so that the judge can compare histograms."""
    assume(width > abs(low) * 1e-6)
    predicted = low + width * np.linspace(0, 1, 200)
    ours, theirs = set(edges(predicted)), set(edges(low + (predicted - low) * moved))
    assert 10 <= len(ours) <= 23
    assert len(ours & theirs) >= min(len(ours), len(theirs)) // 2


KIND = RandomSplit(kind="random", test=0.2)
HELD_OUT = split.masks(pa.table({"id": range(30), "label": [0] * 30}), Roles(id="id", label="label"), KIND)[1]


@pytest.mark.parametrize(
    ("classes", "label", "said", "fix"),
    [
        (None, ["Yes", "No"] * 15, "expected 0 and 1", r"CLASSES = \('No', 'Yes'\) in src/.*schema\.py"),
        (None, [0] * 30, r"labels \[0\], expected 0 and 1", "correct the labels in the source"),
        (None, HELD_OUT.astype(int), r"labels \[0\], expected 0 and 1", "split, so that"),
        (("no", "yes"), ["no", "yes", "U"] * 10, r"7 of 24 .*\['U'\], .* \['no', 'yes'\]", "correct them"),
        (("no", "yes", "Z"), ["no", "yes"] * 15, r"no row at all has \['Z'\]", "from CLASSES"),
        (("no", "yes"), np.where(HELD_OUT, "yes", "no"), r"\['no'\], expected all of", "split, so that"),
    ],
)  # fmt: skip
def test_the_fix_of_wrong_labels_is_at_their_cause(folder, tmp_path, classes, label, said, fix):  # noqa: PLR0917
    """Labels that do not fit are counted; the fix is CLASSES, the split or the source, as the rows show."""
    model, rows = regression(folder, label)
    names = {"ROLES": Roles(id="id", label="label"), "TASK": "binary", "CLASSES": classes}
    binary = with_modules(folder, schema=type("schema", (), names), estimator=model.estimator)
    with pytest.raises(LoopError, match=said) as error:
        train(binary, rows, KIND, None, threshold=0.5, out=tmp_path / "m")
    assert re.search(fix, error.value.fix)


def test_rows_that_are_left_out_are_counted(folder, table, params, tmp_path, capsys):
    """The first line has the rows of both parts, and how many are left out for which reason."""
    train(folder, table, SPLIT, params, threshold=0.5, out=tmp_path / "model")
    mine, test = (int(mask.sum()) for mask in split.masks(table, folder.roles, SPLIT))
    unlabelled = table["TX_FRAUD"].null_count
    out = f"{unlabelled} without a label, {6000 - mine - test - unlabelled:,} outside the split's windows"
    first = capsys.readouterr().out.splitlines()[0]
    assert first == f"{mine:,} training rows, {test:,} test rows; left out: {out}"
    late = SPLIT.model_copy(update={"until": SPLIT.until.replace(year=2030)})
    with pytest.raises(LoopError, match="no labelled row"):
        train(folder, table, late, params, threshold=0.5, out=tmp_path / "late")


@pytest.mark.parametrize("gaps", [pa.nulls(6000, pa.float64()), np.full(6000, np.nan)])
def test_a_feature_without_any_value_is_a_warning(folder, table, params, tmp_path, capsys, gaps):  # noqa: PLR0917
    """A feature of MISSING that has no value in any training row trains with a warning that names it."""
    features = type("features", (), {"MISSING": tuple(NAMES)})
    gappy = with_modules(folder, features=features)
    table = table.set_column(4, NAMES[0], pa.array(gaps))
    train(gappy, table, SPLIT, params, threshold=0.5, out=tmp_path / "model")
    [said] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(rf"warning: {NAMES[0]} is empty in all [\d,]+ training rows", said)
