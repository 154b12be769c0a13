"""Trains EASE (Steck 2019): whether a user watches a film, as a linear function of their watched films.

It is a ridge regression from each user's films to each film, in which a film may not explain itself. Each
weight is the product of two films' vectors, which are computed from singular vectors of the matrix of users
and films. Only the largest singular values are kept.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from loop.core.params import Section

from .scorer import FILE


class Params(Section):
    ridge: float = Field(2000.0, gt=0)  # weight of the penalty, lambda in the paper
    rank: int = Field(128, gt=0)  # length of a film's vector


class Fitted(NamedTuple):
    films: NDArray[np.int64]  # ids of films, ascending
    popularity: NDArray[np.float64]  # share of users who watched each film
    vectors: NDArray[np.float64]  # (films, rank); film i adds v_i · v_j / (1 - |v_j|²) to the score of film j


def fit(rows: Mapping[str, NDArray[Any]], watched: NDArray[np.float64], params: Params) -> Fitted:
    """Train on rows with a history and a film; `watched` is 1 or 0.

    Rows with equal histories belong to one user, who watched the history and the films labelled 1. If these
    films equal the history of later rows, as in production's log, the later rows are about the same user, and
    only they are counted.
    """
    users: dict[Any, set[int]] = {}
    for number, (history, film, yes) in enumerate(zip(rows["history"], rows["film"], watched, strict=True)):
        user = users.setdefault(frozenset(history) or number, set(history))
        user.update([int(film)] if yes > 0 else [])
    last = {key: films for key, films in users.items() if films == key or frozenset(films) not in users}
    sets = [sorted(films) for films in last.values()]
    ends = np.cumsum([0, *map(len, sets)])
    films, place = np.unique(np.concatenate(sets).astype(np.int64), return_inverse=True)
    table = csr_array((np.ones(len(place)), place, ends), shape=(len(sets), len(films)))
    return Fitted(films, table.sum(axis=0) / len(sets), _vectors(table, params))


def _vectors(table: csr_array, params: Params) -> NDArray[np.float64]:
    """Return V √(s² / (s² + ridge)), from the singular value decomposition U s V of the table.

    U and s come from the smaller of the two Gram matrices, because there are fewer users than films.
    """
    with threadpool_limits(1):  # one thread, because another number of threads would round sums differently
        squares, users = np.linalg.eigh((table @ table.T).toarray())
    kept = np.argsort(-squares, kind="stable")[: params.rank]
    kept = kept[squares[kept] > 1e-9 * squares.max()]
    scale = 1 / np.sqrt(squares[kept] + params.ridge)
    return np.asarray((table.T @ users[:, kept]) * scale)


def save(fitted: Fitted, folder: Path) -> None:
    """Write films, popularity, and vectors as float32, to an .npz file."""
    vectors = fitted.vectors.astype(np.float32)
    np.savez(folder / FILE, films=fitted.films, popularity=fitted.popularity, vectors=vectors)
