"""Measures how good production's predictions were, from the labels that were reported later."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
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
    """The metrics of a task over `labelled` predictions, and the targets from `sla.metrics`."""

    task: Task
    labelled: int
    metrics: Mapping[str, float]  # measured metrics; those that the rows do not allow are left out
    targets: Mapping[str, float]

    @property
    def margins(self) -> dict[str, float]:
        """How much better each metric is than its target; negative if the target is missed."""
        return {name: metric.margin(self.metrics[name], bound) for name, metric, bound in self._judged()}

    @property
    def missed(self) -> list[str]:
        """A sentence with the numbers for each target that is missed."""
        found = (metric.missed(self.metrics[name], bound) for name, metric, bound in self._judged())
        return [why for why in found if why]

    @property
    def lacking(self) -> list[str]:
        """The metrics that have a target but cannot be computed from the labelled rows."""
        return [name for name in self.targets if name not in self.metrics]

    def _judged(self) -> list[tuple[str, Metric, float]]:
        """Return each metric that has a target and was measured, with its target."""
        known = of(self.task)
        return [(name, known[name], bound) for name, bound in self.targets.items() if name in self.metrics]


def measure(
    labelled: "pd.DataFrame", task: Task, targets: Mapping[str, float], classes: Sequence[Any] | None = None
) -> Live:
    """Measure the logged `score` and `class` against `label`; the column `rows` counts identical rows.

    `classes` lists the labels in order, and is needed only if they are not 0 and 1. Rows with any other label
    are left out. For several classes the log has only one number per row, so only metrics of the chosen class
    can be measured.
    """
    if classes and task not in VALUED:
        places = {_text(label): place for place, label in enumerate(classes)}
        columns = {name: labelled[name].map(_text).map(places) for name in ("class", "label")}
        known = columns["class"].notna() & columns["label"].notna()
        labelled = labelled.assign(**columns)[known].astype({"class": "int64", "label": "int64"})
    # ranking and embedding metrics need entities, which are not logged
    if labelled.empty or task in COMPARED:
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
        with suppress(ValueError):  # the rows do not allow this metric, such as AUC with a single class
            found[name] = metric.prepare(rows)(counts)
    known = {name: value for name, value in found.items() if isfinite(value)}
    return Live(task, int(counts.sum()), known, targets)


def _text(label: Any) -> str:
    """Return a label as the prediction log spells it."""
    return str(label).lower() if isinstance(label, bool) else str(label)
