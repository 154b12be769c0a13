"""Vectors of an embedding, and the one number of each row that log, drift and the canary judge compare."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def unit(vectors: Floats) -> Floats:
    """(n, d) vectors of length 1; a vector of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return scaled


def centre(vectors: Floats) -> Floats:
    """(d,), the direction of the mean of (n, d) vectors that count alike, whatever their lengths."""
    return unit(unit(vectors).mean(axis=0))


def marks(scores: Floats, centre: Floats | None) -> Floats:
    """(n,), the one number of each row: (n,) scores themselves, and of (n, classes) scores the highest.

    With the `centre` of an embedding, (d,) of length 1: the cosines of its (n, d) vectors to it.
    """
    if centre is not None:
        cosines: Floats = (unit(scores) * centre).sum(axis=1)  # BLAS rounds by its number of threads
        return cosines
    return scores if scores.ndim == 1 else np.asarray(scores.max(axis=1))
