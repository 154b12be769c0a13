"""The 1,797 digits that scikit-learn ships."""

import pyarrow as pa
from sklearn.datasets import load_digits

from loop.core.params import Section
from models.digits.schema import COLUMNS, PIXELS


class Params(Section):
    """Nothing to choose."""


def simulate(_: Params) -> pa.Table:
    """The published rows, in their order."""
    pixels, digit = load_digits(return_X_y=True)
    columns = {"id": range(len(digit)), **dict(zip(PIXELS, pixels.T, strict=True)), "digit": digit}
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})
