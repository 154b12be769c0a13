"""What labels say of answers."""

import pandas as pd

from loop.monitoring.accuracy import Accuracy, accuracy


def test_binary() -> None:
    """A binary model is judged by what it answered, whatever main's threshold is now; scores are ranked."""
    rows = pd.DataFrame({"score": [0.1, 0.4, 0.6, 0.9], "class": [0, 0, 1, 1], "label": [0, 1, 1, 1]})
    assert accuracy(rows.assign(rows=1), "binary") == Accuracy(4, 0.75, 1.0)


def test_multiclass() -> None:
    """A model of several classes is judged by the class it said; it has no one ranking."""
    rows = pd.DataFrame({"score": [None] * 3, "class": [0, 1, 2], "label": [0, 1, 1], "rows": 1})
    assert accuracy(rows, "multiclass") == Accuracy(3, 2 / 3, None)


def test_nothing() -> None:
    """Without labels there is no number; with one class among them, no average precision."""
    rows = pd.DataFrame({"score": [0.1], "class": [0], "label": [0], "rows": [1]})
    assert accuracy(rows.iloc[:0], "binary") == Accuracy(0, None, None)
    assert accuracy(rows, "binary") == Accuracy(1, 1.0, None)
