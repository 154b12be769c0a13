"""How often production was right, told by the labels that came."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loop.core.models import Task

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Accuracy:
    """Over `labelled` predictions; None where there is nothing to say it of."""

    labelled: int
    accuracy: float | None
    average_precision: float | None


def accuracy(labelled: "pd.DataFrame", task: Task) -> Accuracy:
    """Judge what was answered, the column `class`, by `label`; a row stands for `rows` that are alike.

    A binary model's `score` is ranked too.
    """
    from loop.stats.metrics import Rows, average_precision  # here, as the judge needs no NumPy

    if labelled.empty:
        return Accuracy(0, None, None)
    ranked = task == "binary" and labelled["label"].nunique() == 2  # noqa: PLR2004 — it wants both classes
    rows = labelled["rows"]
    return Accuracy(
        labelled=int(rows.sum()),
        accuracy=float(rows[labelled["class"] == labelled["label"]].sum() / rows.sum()),
        average_precision=average_precision(Rows(labelled["label"].to_numpy(), labelled["score"].to_numpy()))(
            rows.to_numpy()
        )
        if ranked
        else None,
    )
