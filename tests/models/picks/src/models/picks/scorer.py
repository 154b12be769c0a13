"""Scores a film by how often films like it are seen together with those of the history."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILMS = 60


def load(folder: Path) -> Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float64]]:
    """The scorer: n histories and films to (n,) scores; a film that training has not seen scores 0."""
    together = np.load(folder / "together.npy")

    def score(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        found = []
        for history, film in zip(rows["history"], rows["film"].astype(int), strict=True):
            known = [seen for seen in history if 0 <= seen < FILMS]
            found.append(together[known, film].mean() if known and 0 <= film < FILMS else 0.0)
        return np.array(found)

    return score


def profile(rows: Mapping[str, NDArray[Any]], _: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """How long histories are, and which films are asked for."""
    return {"length": np.array([len(one) for one in rows["history"]], float), "film": rows["film"]}
