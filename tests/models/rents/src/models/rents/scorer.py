"""Encodes flats, in the same way in training and in the bento, and predicts their rents."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]
TEXTS = ("district", "heating")


class Weights(msgspec.Struct):
    """The content of weights.json."""

    values: dict[str, list[str]]  # for each text column, the values that training has seen
    area: float  # used if the area is unknown
    weights: list[float]
    bias: float


def encode(flats: Columns, values: Mapping[str, list[str]], area: float) -> NDArray[np.float64]:
    """Return (n, f): a column for each known text, then area, whether it is known, rooms and balcony."""
    known = ~np.isnan(flats["area"])
    texts = [np.equal(flats[name], value) for name in TEXTS for value in values[name]]
    columns = [*texts, np.where(known, flats["area"], area), known, flats["rooms"], flats["balcony"]]
    return np.column_stack([column.astype(np.float64) for column in columns])


def load(folder: Path) -> Callable[[Columns], NDArray[np.float64]]:
    """Return the scorer, which converts flats to (n,) rents."""
    kept = msgspec.json.decode((folder / "weights.json").read_bytes(), type=Weights)
    weights = np.array(kept.weights)
    return lambda flats: encode(flats, kept.values, kept.area) @ weights + kept.bias
