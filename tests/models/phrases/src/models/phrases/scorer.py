"""Cuts texts into words and adds up the words' vectors."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def words(text: str) -> list[str]:
    """A text's words, in lower case."""
    return text.lower().split()


def load(folder: Path) -> Callable[[Mapping[str, NDArray[Any]]], Floats]:
    """The scorer: n texts to (n, d) vectors; a text without a known word is all zeros."""
    kept = msgspec.json.decode((folder / "words.json").read_bytes(), type=dict[str, list[float]])
    vectors = {word: np.array(vector) for word, vector in kept.items()}
    nothing = np.zeros_like(next(iter(vectors.values())))

    def score(rows: Mapping[str, NDArray[Any]]) -> Floats:
        return np.array(
            [sum((vectors.get(word, nothing) for word in words(text)), nothing) for text in rows["text"]]
        )

    return score


def profile(rows: Mapping[str, NDArray[Any]], vectors: Floats) -> dict[str, Floats]:
    """How many words a text has, and how long its vector is."""
    return {
        "words": np.array([len(words(text)) for text in rows["text"]], float),
        "length": np.linalg.norm(vectors, axis=1),
    }
