"""Scores a film by a user's history: the film's vector times the sum of the vectors of watched films.

Recently watched films count more: the n-th newest has the weight 1 / sqrt(n). Films that training has not
seen are left out of the history. If no known film remains, the score is the film's popularity.
"""

from collections.abc import Sequence
from math import isnan, log1p, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop.runtime.columns import BadRow, Columns

FILE = "films.npz"
MOST = 5_000  # maximum number of films in a history
NEW = -10.0  # the score of a film that training has not seen, lower than all other scores
TOP = 10


class Answer(NamedTuple):
    """The results for one row."""

    score: float
    films: list[int]  # the best films that are not in the history; empty if the request names a film
    profile: dict[str, float]


class Scorer:
    """Scores rows of a history and a film; without a film, the best film's score is returned."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / FILE) as saved:
            self.films, self.popularity, self.vectors = map(saved.get, ("films", "popularity", "vectors"))
        self.targets = self.vectors / (1 - np.square(self.vectors).sum(axis=1, keepdims=True))
        self.places = {film: place for place, film in enumerate(self.films.tolist())}
        self.weights = (1 / np.sqrt(np.arange(1, MOST + 1))).astype(np.float32)
        self._latest: tuple[Columns, list[Answer]] = {}, []

    def __call__(self, rows: Columns) -> NDArray[np.float64]:
        answers = self._scored(rows)
        self._latest = rows, answers
        return np.array([each.score for each in answers], np.float64)

    def answer(self, rows: Columns, _: NDArray[np.float64]) -> dict[str, list[list[int]]]:
        """Return the ten best films that are not in the history, for rows that name no film."""
        return {"films": [each.films for each in self._answers(rows)]}

    def profile(self, rows: Columns, _: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return the log of each history's length, its share of unknown films, and its films' popularity."""
        named = [each.profile for each in self._answers(rows)]
        return {name: np.array([one[name] for one in named]) for name in named[0]}

    def _answers(self, rows: Columns) -> list[Answer]:
        """Return the results for each row, computed once for the rows that were scored last."""
        of, answers = self._latest
        return answers if of is rows else self._scored(rows)

    def _scored(self, rows: Columns) -> list[Answer]:
        return [self._one(*row) for row in zip(rows["history"], rows["film"], strict=True)]

    def _one(self, history: Sequence[int], film: float) -> Answer:
        """Score a film, or all films if it is NaN. Raises BadRow for an invalid id or too long a history."""
        if not isnan(film) and not (film >= 1 and film == int(film)):
            raise BadRow(f"film is {film:g}, should be the id of a film, a whole number from 1 up")
        if len(history) > MOST:
            raise BadRow(f"history has {len(history):,} films, should have {MOST:,} at most")
        if len(history) and min(history) < 1:
            raise BadRow(
                f"history contains {min(history)}, should contain ids of films, whole numbers from 1 up"
            )
        newest = dict.fromkeys(reversed(history))
        known = [self.places[each] for each in newest if each in self.places]
        asked = None if isnan(film) else self.places.get(int(film))
        others = [place for place in known if place != asked]
        # einsum and vecdot are used because a matrix product starts threads, and a pod has only one core.
        user = np.einsum("i,ij->j", self.weights[: len(others)], self.vectors[others])
        best: list[int] = []
        if asked is not None:
            score = self.targets[asked] @ user if others else self.popularity[asked]
        elif not isnan(film):
            score = NEW
        else:
            scores = np.vecdot(self.targets, user) if others else self.popularity.copy()
            best = self._best(scores, known)
            score, asked = (scores[best[0]], best[0]) if best else (NEW, None)
        seen = {
            "log_length": log1p(len(newest)),
            "unknown_share": 1 - len(known) / len(newest) if newest else 0.0,
            "history_popularity": float(self.popularity[known].mean()) if known else nan,
            "film_popularity": 0.0 if asked is None else float(self.popularity[asked]),
        }
        return Answer(float(score), self.films[best].tolist(), seen)

    def _best(self, scores: NDArray[Any], known: list[int]) -> list[int]:
        """Return the positions of the highest scores, except those in `known`."""
        scores[known] = -np.inf
        few = min(TOP, len(scores) - len(known))
        top = np.argpartition(-scores, few - 1)[:few] if few else np.empty(0, np.int64)
        return top[np.lexsort((top, -scores[top]))].tolist()


load = Scorer
