"""The drift score of each kind of feature is low if nothing has moved, and high if something has."""

import numpy as np
import pandas as pd
import pytest
from shop import FEATURES, rows

from loop.monitoring.drift import drift

THRESHOLD = 0.3


def test_still() -> None:
    """No feature of an unchanged week comes near the threshold, even with ties, flags or mostly zeros."""
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
        ("weekend", lambda column: column + 0.5),
        ("risk", lambda column: np.where(np.arange(len(column)) % 10, column, 0.9)),
        ("amount", lambda column: np.where(np.arange(len(column)) % 3, column, np.nan)),
        ("amount", lambda column: column * np.nan),
        ("weekend", lambda column: column * np.nan),
    ],
)
def test_moved(feature: str, change: object) -> None:
    """Only the feature that moved crosses the threshold; values that are missing now count as moved, too."""
    week = rows(1_500, seed=2)[FEATURES]
    week[feature] = change(week[feature])
    found = drift(rows(5_000, seed=1)[FEATURES], week)
    assert [name for name, d in found.items() if d.told >= THRESHOLD] == [feature]


@pytest.mark.parametrize("scale", [1e-30, 1e-5, 1.0, 1e5, 1e20, 1e37])
def test_any_scale(scale: float) -> None:
    """A shift of ten standard deviations scores ten in any unit."""
    rng = np.random.default_rng(0)
    trained, served = ({"x": scale * (mean + rng.normal(size=5_000))} for mean in (20, 30))
    found = drift(trained, served)["x"]
    assert found.score == pytest.approx(10, rel=0.03)
    assert found.chance == 0


def test_flags_as_served() -> None:
    """Reading a flag's values as float32, as a service does, is not drift."""
    trained = pd.DataFrame({"flag": np.tile([0.1, 0.7], 500)})
    assert drift(trained, trained.astype("float32"))["flag"].score == 0


def test_codes_of_categories() -> None:
    """Integers in the reference are categories: drift compares the share of each, even of a new one."""
    rng = np.random.default_rng(0)
    codes = rng.choice([0, 1, 2], 5_000, p=[0.6, 0.3, 0.1]).astype(np.int16)
    alike = rng.choice([0, 1, 2], 1_500, p=[0.6, 0.3, 0.1]).astype(float)
    moved, new = np.where(alike == 0, 2.0, alike), np.where(np.arange(1_500) % 3, alike, -1.0)
    found = [drift({"city": codes}, {"city": current})["city"] for current in (alike, moved, new)]
    assert [one.test for one in found] == ["psi"] * 3
    assert found[0].told < 0.05
    assert min(one.told for one in found[1:]) > THRESHOLD


def test_many_columns() -> None:
    """Of a hundred columns that did not move, none drifts by chance."""
    rng = np.random.default_rng(1)
    trained, served = ({str(n): rng.normal(size=200) for n in range(100)} for _ in range(2))
    assert max(d.told for d in drift(trained, served).values()) == 0
