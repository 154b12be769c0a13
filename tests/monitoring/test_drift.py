"""The distance of each kind of feature: still when nothing moved, loud when something did."""

import numpy as np
import pandas as pd
import pytest
from shop import FEATURES, rows

from loop.monitoring.drift import drift

pytestmark = pytest.mark.slow  # the import of Evidently alone takes seconds

THRESHOLD = 0.3


def test_still() -> None:
    """No feature of an unchanged week comes near the threshold: ties, flags and mostly zeros among them."""
    found = drift(rows(5_000, seed=1)[FEATURES], rows(1_500, seed=2)[FEATURES])
    assert {name: d.test for name, d in found.items()} == {
        "amount": "wasserstein",
        "often": "wasserstein",
        "weekend": "psi",
        "risk": "wasserstein",
    }
    assert max(d.score for d in found.values()) < THRESHOLD / 2


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("amount", lambda column: column * 1.5),
        ("often", lambda column: column + 1),
        ("weekend", lambda column: 1 - column),
        ("risk", lambda column: np.where(np.arange(len(column)) % 10, column, 0.9)),
    ],
)
def test_moved(feature: str, change: object) -> None:
    """What moved crosses the threshold, and nothing else does."""
    week = rows(1_500, seed=2)[FEATURES]
    week[feature] = change(week[feature])
    found = drift(rows(5_000, seed=1)[FEATURES], week)
    assert [name for name, d in found.items() if d.score >= THRESHOLD] == [feature]


def test_flags_as_served() -> None:
    """A flag's values are the same ones after a service has read them as float32."""
    trained = pd.DataFrame({"flag": np.tile([0.1, 0.7], 500)})
    assert drift(trained, trained.astype("float32"))["flag"].score == pytest.approx(0)
