"""progress as an application, with a scorer of its own."""

from pathlib import Path

import numpy as np

from loop.serving.packed import app


def load(folder):
    """(n, 10) to (n,) predicted values, by NumPy alone."""
    with np.load(folder / "weights.npz") as kept:
        weights, bias = kept["weights"], kept["bias"]
    return lambda x: x @ weights + bias


application = app.create(Path(__file__).parent, load)
