"""Scores films by what a user has watched: a film's vector times the sum of the vectors of the history.

Newer films of a history count more: the n-th newest counts 1 / sqrt(n). Films that training has not seen are
left out of a history. Where no known film is left, a film's score is its popularity.
"""

from collections.abc import Mapping, Sequence
from math import isnan, log1p, nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loop.runtime.columns import BadRow

FILE = "films.npz"
MOST = 5_000  # films of a history, at most
NEW = -10.0  # the score of a film that training has not seen, below all others
TOP = 10

Rows = Mapping[str, NDArray[Any]]


class Answer(NamedTuple):
    """What is known of a row once it is scored."""

    score: float
    films: list[int]  # the best that are not in the history; none where the request names a film
    profile: dict[str, float]


def load(folder: Path) -> "Scorer":
    """The scorer of the films in a folder."""
    with np.load(folder / FILE) as saved:
        return Scorer(saved["films"], saved["popularity"], saved["vectors"])


class Scorer:
    """Scores rows with a history and a film; without a film, the score is that of the best one."""

    def __init__(
        self, films: NDArray[np.int64], popularity: NDArray[np.float64], vectors: NDArray[np.float32]
    ) -> None:
        self.films, self.popularity, self.vectors = films, popularity, vectors
        self.targets = vectors / (1 - np.square(vectors).sum(axis=1, keepdims=True))
        self.places = {film: place for place, film in enumerate(films.tolist())}
        self.weights = (1 / np.sqrt(np.arange(1, MOST + 1))).astype(np.float32)
        self._latest: tuple[Rows, list[Answer]] = {}, []

    def __call__(self, rows: Rows) -> NDArray[np.float64]:
        answers = self._scored(rows)
        self._latest = rows, answers
        return np.array([each.score for each in answers], np.float64)

    def answer(self, rows: Rows, _: NDArray[np.float64]) -> dict[str, list[list[int]]]:
        """The ten best films that are not in the history, for rows that name no film."""
        return {"films": [each.films for each in self._answers(rows)]}

    def profile(self, rows: Rows, _: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """The logarithm of a history's length, its share of unknown films, and how popular its films are."""
        named = [each.profile for each in self._answers(rows)]
        return {name: np.array([one[name] for one in named]) for name in named[0]}

    def _answers(self, rows: Rows) -> list[Answer]:
        """What is known of each row; the rows that were scored last are not scored again."""
        of, answers = self._latest
        return answers if of is rows else self._scored(rows)

    def _scored(self, rows: Rows) -> list[Answer]:
        return [self._one(*row) for row in zip(rows["history"], rows["film"], strict=True)]

    def _one(self, history: Sequence[int], film: float) -> Answer:
        """Score a film, or all of them where it is NaN; BadRow for what can be no film."""
        _check(history, film)
        newest = dict.fromkeys(reversed(history))
        known = [self.places[each] for each in newest if each in self.places]
        asked = None if isnan(film) else self.places.get(int(film))
        others = [place for place in known if place != asked]
        # Neither of NumPy's two functions here starts threads, as a matrix product does: a pod has one core.
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
        """The places of the highest scores, without those of `known`."""
        scores[known] = -np.inf
        few = min(TOP, len(scores) - len(known))
        top = np.argpartition(-scores, few - 1)[:few] if few else np.empty(0, np.int64)
        return top[np.lexsort((top, -scores[top]))].tolist()


def _check(history: Sequence[int], film: float) -> None:
    if not isnan(film) and not (film >= 1 and film == int(film)):
        raise BadRow(f"film is {film:g}, should be the id of a film: a whole number from 1 up")
    if len(history) > MOST:
        raise BadRow(f"history has {len(history):,} films, should have {MOST:,} at most")
    if len(history) and min(history) < 1:
        raise BadRow(f"history has {min(history)}, should have ids of films: whole numbers from 1 up")
