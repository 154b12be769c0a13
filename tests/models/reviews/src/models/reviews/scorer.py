"""Cuts texts into words and adds up the words' weights."""

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
    """Converts n texts to (n,) probabilities of a positive opinion."""

    def __init__(self, folder: Path) -> None:
        self.weights = msgspec.json.decode((folder / "words.json").read_bytes(), type=dict[str, float])
        self.bias = self.weights.pop("")

    def __call__(self, rows: Mapping[str, NDArray[Any]]) -> Floats:
        odds = [self.bias + sum(self.weights.get(word, 0.0) for word in words(text)) for text in rows["text"]]
        return 1 / (1 + np.exp(-np.array(odds)))

    def profile(self, rows: Mapping[str, NDArray[Any]], scores: Floats) -> dict[str, Floats]:
        """Return each text's number of words, the words' mean length, and the model's certainty."""
        cut = [words(text) for text in rows["text"]]
        return {
            "words": np.array([len(one) for one in cut], float),
            "letters": np.array([len("".join(one)) / max(len(one), 1) for one in cut]),
            "certainty": np.abs(scores - 0.5),
        }


load = Scorer
