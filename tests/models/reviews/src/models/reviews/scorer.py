"""Cuts texts into words and adds up the words' weights."""

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
    """The scorer: n texts to (n,) probabilities of praise."""
    kept = msgspec.json.decode((folder / "words.json").read_bytes(), type=dict[str, float])
    bias = kept.pop("")

    def score(rows: Mapping[str, NDArray[Any]]) -> Floats:
        odds = [bias + sum(kept.get(word, 0.0) for word in words(text)) for text in rows["text"]]
        return 1 / (1 + np.exp(-np.array(odds)))

    return score


def profile(rows: Mapping[str, NDArray[Any]], scores: Floats) -> dict[str, Floats]:
    """How many words a text has, how long they are, and how sure the model is."""
    cut = [words(text) for text in rows["text"]]
    return {
        "words": np.array([len(one) for one in cut], float),
        "letters": np.array([len("".join(one)) / max(len(one), 1) for one in cut]),
        "certainty": np.abs(scores - 0.5),
    }
