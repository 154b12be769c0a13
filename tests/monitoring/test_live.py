"""Labels and logged answers give the model's live metrics."""

from typing import Literal

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from loop.monitoring.live import measure


def test_binary() -> None:
    """Every metric of the task is measured by the logged answers, whatever main's threshold is now."""
    rows = pd.DataFrame({"score": [0.1, 0.4, 0.6, 0.9], "class": [0, 0, 0, 1], "label": [0, 1, 1, 1]})
    found = measure(rows.assign(rows=1), "binary", {})
    assert found.labelled == 4
    assert found.metrics["accuracy"] == 0.5
    assert found.metrics["recall"] == pytest.approx(1 / 3)
    assert found.metrics["average_precision"] == 1
    assert found.metrics["log_loss"] == pytest.approx(metrics.log_loss(rows["label"], rows["score"]))


def test_rows_that_are_alike() -> None:
    """A row that stands for several equal rows counts that many times."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 40)
    rows = pd.DataFrame({"score": rng.random(40).round(1), "class": rng.integers(0, 2, 40), "label": label})
    once = rows.assign(rows=rng.integers(1, 9, 40))
    each = rows.loc[rows.index.repeat(once["rows"])].assign(rows=1)
    found, expected = (measure(table, "binary", {}) for table in (once, each))
    assert found.labelled == expected.labelled == len(each)
    assert found.metrics == pytest.approx(expected.metrics)
    assert len(found.metrics) == 9


def test_multiclass() -> None:
    """A multiclass model is measured by the answered class, because the log does not have all scores."""
    rows = pd.DataFrame({"score": [None] * 3, "class": [3, 5, 7], "label": [3, 5, 5], "rows": 1})
    found = measure(rows, "multiclass", {})
    expected = metrics.f1_score(rows["label"], rows["class"], average="macro", zero_division=0)
    assert found.metrics == pytest.approx({"accuracy": 2 / 3, "f1": expected})


@pytest.mark.parametrize("task", ["ranking", "embedding"])
def test_tasks_that_compare_rows(task: Literal["ranking", "embedding"]) -> None:
    """These tasks are not measured, because the log does not say which rows belong together."""
    rows = pd.DataFrame({"score": [0.1, 0.4], "class": [None] * 2, "label": [1, 5], "rows": [1, 2]})
    assert (measure(rows, task, {}).labelled, measure(rows, task, {}).metrics) == (3, {})


def test_classes_in_words() -> None:
    """The score belongs to the second class; a row with an unknown class is left out."""
    numbers = pd.DataFrame(
        {"score": [0.1, 0.4, 0.9], "class": [0, 1, 1], "label": [0, 0, 1], "rows": [2, 1, 3]}
    )
    for classes in (("No", "Yes"), (False, True)):
        texts = numbers.assign(
            **{
                name: [
                    str(classes[place]).lower() if classes[0] is False else classes[place]
                    for place in numbers[name]
                ]
                for name in ("class", "label")
            }
        )
        odd = pd.DataFrame({"score": [0.5], "class": ["maybe"], "label": [texts["label"][0]], "rows": [1]})
        found = measure(pd.concat([texts, odd]), "binary", {}, classes)
        assert (found.labelled, found.metrics) == (6, measure(numbers, "binary", {}).metrics)


def test_targets() -> None:
    """A loss over its bound misses its target; a metric that meets its own, or is not measured, does not."""
    rows = pd.DataFrame({"score": [0.1, 0.4], "class": [0, 0], "label": [0, 0], "rows": 1})
    found = measure(rows, "binary", {"log_loss": 0.1, "accuracy": 0.93, "roc_auc": 0.8})
    assert found.margins == pytest.approx({"log_loss": 0.1 - found.metrics["log_loss"], "accuracy": 0.07})
    assert found.missed == [f"log_loss is {found.metrics['log_loss']:.4f}, over its bound 0.1"]
    assert found.lacking == ["roc_auc"]


def test_nothing() -> None:
    """Without labels, no metric is reported."""
    rows = pd.DataFrame({"score": [0.1], "class": [0], "label": [0], "rows": [1]})
    assert measure(rows.iloc[:0], "binary", {"accuracy": 1.0}).metrics == {}
