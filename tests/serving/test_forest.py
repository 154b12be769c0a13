"""Trees that NumPy evaluates score like XGBoost's booster."""

import numpy as np
import pytest
import xgboost
from hypothesis import given
from hypothesis import strategies as st

from loop.runtime import booster


def trained(folder, rounds=20, depth=4, **settings):
    rng = np.random.default_rng(rounds)
    x = rng.normal(size=(500, 6)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    of = {"objective": "binary:logistic", "max_depth": depth, "subsample": 0.8, **settings}
    folder.mkdir(exist_ok=True)
    made = xgboost.train(of, xgboost.QuantileDMatrix(x, label=y), rounds)
    made.save_model(folder / "model.ubj")
    return made


def read(made):
    return booster.forest(bytes(made.save_raw("json")))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A booster, and its forest."""
    made = trained(tmp_path_factory.mktemp("forest"), 60, 5)
    return made, read(made)


floats = st.floats(-(2.0**126), 2.0**126, width=32) | st.sampled_from([-0.0, 1e-45])


@given(st.data())
def test_any_finite_rows_score_alike(made, data):
    """Any rows, also at a split's threshold or just below it, score within 1e-6 of the booster's scores."""
    model, trees = made
    known = trees.thresholds[np.isfinite(trees.thresholds)]
    edges = st.sampled_from([*known.tolist(), *np.nextafter(known, np.float32(-np.inf)).tolist()])
    row = st.lists(floats | edges, min_size=6, max_size=6)
    rows = np.array(data.draw(st.lists(row, min_size=1, max_size=8)), np.float32)
    assert np.abs(trees(rows) - model.inplace_predict(rows)).max() <= 1e-6


@pytest.mark.parametrize(
    ("rounds", "depth", "other"),
    [
        (1, 1, {}),
        (3, 9, {}),
        (200, 2, {"base_score": 0.02}),
        (10, 0, {"grow_policy": "lossguide", "max_leaves": 20}),
    ],
)
def test_every_shape_of_trees(tmp_path, rounds, depth, other):
    """The scores agree for a stump, for uneven, deep and many trees, and for another base score."""
    model = trained(tmp_path, rounds, depth, **other)
    rows = np.random.default_rng(1).normal(size=(300, 6)).astype(np.float32)
    assert np.abs(read(model)(rows) - model.inplace_predict(rows)).max() <= 1e-6


def test_trees_that_would_take_too_much_memory_are_left_to_xgboost(tmp_path, monkeypatch):
    """All trees are filled to the depth of the deepest, so one deep tree can make many nodes of few."""
    model = trained(tmp_path, 3, 6)
    leaves = len(read(model).leaves)
    monkeypatch.setattr(booster, "NODES", leaves)
    assert read(model)
    monkeypatch.setattr(booster, "NODES", leaves - 1)
    assert read(model) is None


@pytest.mark.parametrize(
    "other",
    [{"objective": "reg:squarederror"}, {"booster": "dart", "rate_drop": 0.5}],
)
def test_other_models_are_left_to_xgboost(tmp_path, other):
    """A model with another objective or booster has no forest, and XGBoost's booster scores it."""
    model = trained(tmp_path, **other)
    assert read(model) is None
    rows = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    assert booster.load(tmp_path)(rows).tolist() == model.inplace_predict(rows).tolist()
