"""Cuts texts into words and adds up the words' vectors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def words(text: str) -> list[str]:
    """Return a text's words, in lower case."""
    return text.lower().split()


class Scorer:
    """Converts n texts to (n, d) vectors; a text without a known word gives zeros."""

    def __init__(self, folder: Path) -> None:
        kept = msgspec.json.decode((folder / "words.json").read_bytes(), type=dict[str, list[float]])
        self.vectors = {word: np.array(vector) for word, vector in kept.items()}
        self.nothing = np.zeros_like(next(iter(self.vectors.values())))

    def __call__(self, rows: Mapping[str, NDArray[Any]]) -> Floats:
        return np.array([self._vector(text) for text in rows["text"]])

    def _vector(self, text: str) -> Floats:
        return sum((self.vectors.get(word, self.nothing) for word in words(text)), self.nothing)

    def profile(self, rows: Mapping[str, NDArray[Any]], vectors: Floats) -> dict[str, Floats]:
        """Return each text's number of words, and the length of its vector."""
        return {
            "words": np.array([len(words(text)) for text in rows["text"]], float),
            "length": np.linalg.norm(vectors, axis=1),
        }


load = Scorer
