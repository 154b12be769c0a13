"""The 1,797 digits that scikit-learn ships, each written as a binary PGM."""

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits

from .schema import COLUMNS


def simulate(_: object) -> pa.Table:
    """Return the published rows, in their order."""
    pixels, digit = load_digits(return_X_y=True)
    images = [b"P5 8 8 16\n" + row.tobytes() for row in pixels.astype(np.uint8)]
    columns = {"id": range(len(digit)), "image": images, "digit": digit}
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})
