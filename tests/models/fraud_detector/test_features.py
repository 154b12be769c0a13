"""A fraud detector's features are those of the handbook, and use nothing from the future."""

import numpy as np
import pandas as pd
import pytest
from frames import payments
from hypothesis import given, settings
from hypothesis import strategies as st

from loop.core import models
from loop.pipeline.features import compute
from loop.pipeline.split import features, matrix

pytestmark = pytest.mark.contract
PARAMS = {"windows_days": (1, 2), "delay_days": 3}
SPAN = 8 * 24 * 60 * 60
ROWS = st.lists(
    st.tuples(
        st.integers(0, SPAN).map(lambda second: second - second % 10_800),  # on a grid, to hit window edges
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(1, 99_999),
        st.sampled_from([0, 1, None]),
    ),
    min_size=1,
    max_size=25,
)


@pytest.fixture(scope="module")
def folder(repository):
    return models.load(repository, "fraud_detector")


def _by_id(folder, rows):
    """Return {transaction: its features}."""
    out = compute(folder, payments(rows), folder.features.Params(**PARAMS))
    return dict(zip(out["TRANSACTION_ID"].to_pylist(), matrix(out, features(out, folder.roles)), strict=True))


@pytest.mark.slow
@settings(max_examples=40)
@given(rows=ROWS, later=ROWS, data=st.data())
def test_no_feature_sees_the_future(folder, rows, later, data):
    """No later transaction, and no label younger than the delay, changes a feature of a row."""
    now = data.draw(st.sampled_from([row[0] for row in rows]))
    delay = PARAMS["delay_days"] * 24 * 60 * 60
    past = [row for row in rows if row[0] <= now]
    unlabelled = [row if row[0] <= now - delay else (*row[:4], 1 - (row[4] or 0)) for row in past]
    changed = unlabelled + [(now + 1 + row[0], *row[1:]) for row in later]
    before, after = _by_id(folder, past), _by_id(folder, changed)
    for position, row in enumerate(past):
        if row[0] == now:
            np.testing.assert_array_equal(before[position], after[position])


def _rolling(table, days, value):
    """Return sum and count over the `days` up to each row; rows of the same time count together."""
    rolled = value.rolling(f"{days}D").agg(["sum", "count"])
    return rolled.groupby(level=0).transform("last") if len(rolled) else rolled


def _handbook(rows):
    """Return the features by the handbook's chapter 3 in its own pandas code, one row a transaction."""
    t = payments(rows).to_pandas().set_index("TX_DATETIME", drop=False).sort_index(kind="stable")
    t["known"] = t.TX_FRAUD.fillna(0)
    t["WEEKEND"], t["NIGHT"] = (t.index.weekday >= 5).astype(float), (t.index.hour <= 6).astype(float)
    parts = []
    for days in PARAMS["windows_days"]:
        for _, group in t.groupby("CUSTOMER_ID"):
            amount = _rolling(group, days, group.TX_AMOUNT)
            parts.append(_named(group, f"C{days}", amount["count"], amount["sum"] / amount["count"]))
        for _, group in t.groupby("TERMINAL_ID"):
            delay = _rolling(group, PARAMS["delay_days"], group.known)
            both = _rolling(group, PARAMS["delay_days"] + days, group.known)
            window = both - delay
            risk = (window["sum"] / window["count"]).fillna(0)
            parts.append(_named(group, f"T{days}", window["count"], risk))
    wide = pd.concat(parts).groupby(level=0).first()
    names = [f"{entity}{days}{i}" for entity in "CT" for days in PARAMS["windows_days"] for i in "ab"]
    ours = t.set_index("TRANSACTION_ID")[["TX_AMOUNT", "WEEKEND", "NIGHT"]]
    return ours.join(wide[names]).sort_index()


def _named(group, name, first, second):
    return pd.DataFrame(
        {f"{name}a": first.to_numpy(), f"{name}b": second.to_numpy()}, index=group.TRANSACTION_ID.to_numpy()
    )


@pytest.mark.slow
@settings(max_examples=40)
@given(rows=ROWS)
def test_features_are_the_handbooks(folder, rows):
    """Every feature equals the handbook's own pandas definition."""
    found = _by_id(folder, rows)
    np.testing.assert_allclose(
        np.array([found[i] for i in range(len(rows))]), _handbook(rows).to_numpy(), atol=1e-9
    )


def test_names_fit_the_columns(folder):
    """FEATURES names the 15 columns of the default windows in order, without any that explains the label."""
    out = compute(folder, payments([(0, 1, 1, 100, 0)]), folder.features.Params())
    assert tuple(features(out, folder.roles)) == folder.features.FEATURES
    assert len(folder.features.FEATURES) == 15
