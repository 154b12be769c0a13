"""Vectors of an embedding, and the one number for each that drift and the canary judge compare."""

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


def cosines(vectors: Floats, to: Floats) -> Floats:
    """(n,) cosines of (n, d) vectors to a vector of length 1."""
    found: Floats = unit(vectors) @ to
    return found
