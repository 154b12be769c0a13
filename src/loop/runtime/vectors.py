"""Functions on embedding vectors, and the one number per row that log, drift and canary judge compare."""

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def unit(vectors: Floats) -> Floats:
    """Return (n, d) vectors scaled to length 1; a zero vector stays zero."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1))


def centre(vectors: Floats) -> Floats:
    """Return (d,), the direction of the mean of (n, d) vectors, each scaled to length 1 first."""
    return unit(unit(vectors).mean(axis=0))


def marks(scores: Floats, centre: Floats | None) -> Floats:
    """Return one number per row, (n,).

    For scores (n,) these are the scores, for scores (n, classes) the highest of each row, and for an
    embedding's vectors (n, d) their cosines to `centre` (d,), which has length 1.
    """
    if centre is not None:
        # A matrix product is not used, because BLAS rounds it differently with the number of threads.
        lengths = np.sqrt(np.einsum("ij,ij->i", scores, scores))
        return np.asarray(np.einsum("ij,j->i", scores, centre) / np.where(lengths > 0, lengths, 1))
    return scores if scores.ndim == 1 else np.asarray(scores.max(axis=1))


def json(vectors: NDArray[np.float32]) -> msgspec.Raw:
    """Return vectors as JSON numbers, each in the fewest digits that give its float32 again."""
    import orjson  # only bentos of embeddings have this package; msgspec writes a float32 as a float64

    return msgspec.Raw(orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY))
