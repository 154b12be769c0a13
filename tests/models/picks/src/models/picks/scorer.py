"""Scores a film by how often films like it are seen together with those of the history."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILMS = 60


class Scorer:
    """Converts n histories and films to (n,) scores; a film that training has not seen scores 0."""

    def __init__(self, folder: Path) -> None:
        self.together = np.load(folder / "together.npy")

    def __call__(self, rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        found = []
        for history, film in zip(rows["history"], rows["film"].astype(int), strict=True):
            known = [seen for seen in history if 0 <= seen < FILMS]
            found.append(self.together[known, film].mean() if known and 0 <= film < FILMS else 0.0)
        return np.array(found)

    def profile(self, rows: Mapping[str, NDArray[Any]], _: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Return each history's length, and the film."""
        return {"length": np.array([len(one) for one in rows["history"]], float), "film": rows["film"]}


load = Scorer
