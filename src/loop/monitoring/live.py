"""How good production's answers were, measured by the labels that have come."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from loop.core.models import COMPARED, VALUED, Task
from loop.stats.metrics import Metric, Rows, of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Live:
    """The metrics of a task over `labelled` predictions, and the targets that some of them have."""

    task: Task
    labelled: int
    metrics: Mapping[str, float]  # one that these rows do not allow is left out
    targets: Mapping[str, float]

    @property
    def margins(self) -> dict[str, float]:
        """By how much each metric with a target is better than it; negative where it misses it."""
        return {metric.name: metric.margin(value, bound) for metric, value, bound in self._judged()}

    @property
    def missed(self) -> list[str]:
        """Each target that is missed, with its numbers."""
        found = [metric.missed(value, bound) for metric, value, bound in self._judged()]
        return [why for why in found if why]

    @property
    def lacking(self) -> list[str]:
        """Metrics with a target that these rows do not allow."""
        return [name for name in self.targets if name not in self.metrics]

    def _judged(self) -> Iterator[tuple[Metric, float, float]]:
        """Each metric that has a target and was measured, its value, and its bound."""
        known = of(self.task)
        for name, bound in self.targets.items():
            if name in self.metrics:
                yield known[name], self.metrics[name], bound


def measure(
    labelled: "pd.DataFrame", task: Task, targets: Mapping[str, float], classes: Sequence[Any] | None = None
) -> Live:
    """Measure what was answered (`score`, `class`) against `label`; a row stands for `rows` that are alike.

    `classes` lists the labels in order; it is needed only if they are not 0 and 1. Rows with any other label
    are left out. Of several classes the log is read with one number a row, so only metrics of the
    chosen class can be measured.
    """
    if classes and task not in VALUED:
        places = {_text(label): place for place, label in enumerate(classes)}
        columns = {name: labelled[name].map(_text).map(places) for name in ("class", "label")}
        known = columns["class"].notna() & columns["label"].notna()
        labelled = labelled.assign(**columns)[known].astype({"class": "int64", "label": "int64"})
    if labelled.empty or task in COMPARED:  # the log has no entities
        return Live(task, int(labelled["rows"].sum()), {}, targets)
    counts = labelled["rows"].to_numpy()
    answered, label = labelled["class"].to_numpy(), labelled["label"].to_numpy()
    scores = labelled["score"].to_numpy()
    if task in VALUED:
        answered = None
    elif task == "multiclass":
        names, numbers = np.unique([label, answered], return_inverse=True)
        label, answered = numbers.reshape(2, -1)
        scores = np.full((len(label), len(names)), np.nan)
    rows = Rows(label, scores, answered=answered)
    found = {}
    for name, metric in of(task).items():
        try:
            found[name] = metric.prepare(rows)(counts)
        except ValueError:  # rows of one class
            continue
    known = {name: value for name, value in found.items() if isfinite(value)}
    return Live(task, int(counts.sum()), known, targets)


def _text(label: Any) -> str:
    """A label as the log's text has it."""
    return str(label).lower() if isinstance(label, bool) else str(label)
