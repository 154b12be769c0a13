"""digits as a service, with a scorer of its own."""

from pathlib import Path

import bentoml
import numpy as np

from loop.serving.packed import app, image

HERE = Path(__file__).parent
BASE = "docker.io/library/python:3.11-slim-bookworm"


def load(folder):
    """(n, 64) to (n, 10) probabilities, by NumPy alone."""
    with np.load(folder / "weights.npz") as kept:
        weights, bias = kept["weights"], kept["bias"]

    def score(x):
        exponent = np.exp(x @ weights + bias)
        return exponent / exponent.sum(axis=1, keepdims=True)

    return score


@bentoml.service(name="digits", image=image.pinned(HERE / "requirements.lock", BASE), workers=1)
@bentoml.asgi_app(app.create(HERE, load))
class Digits:
    """Reads digits."""
