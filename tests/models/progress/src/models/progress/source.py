"""The 442 patients that scikit-learn ships (Efron, Hastie, Johnstone and Tibshirani, 2004)."""

import pyarrow as pa
from sklearn.datasets import load_diabetes

from loop.core.params import Section
from models.progress.schema import COLUMNS, MEASURED


class Params(Section):
    """Nothing to choose."""


def simulate(_: Params) -> pa.Table:
    """The published rows, in their order."""
    measured, progression = load_diabetes(return_X_y=True, scaled=False)
    columns = {"id": range(len(progression)), **dict(zip(MEASURED, measured.T, strict=True))}
    columns["progression"] = progression
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})
