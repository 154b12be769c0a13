"""EASE (Steck 2019): how likely a user is to watch a film, as a linear function of what they have watched.

It is a ridge regression from each user's films to each film, which may not explain itself. Its weights are
products of two films' vectors, made of the singular vectors of the table of users and films; the largest
singular values suffice.
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
    ridge: float = Field(2000.0, gt=0)  # lambda of the paper
    rank: int = Field(128, gt=0)  # numbers of a film's vector


class Fitted(NamedTuple):
    films: NDArray[np.int64]  # ids, rising
    popularity: NDArray[np.float64]  # share of users who have watched a film
    vectors: NDArray[np.float64]  # (films, rank); film i counts v_i · v_j / (1 - |v_j|²) for film j


def fit(rows: Mapping[str, NDArray[Any]], watched: NDArray[np.float64], params: Params) -> Fitted:
    """Rows with equal histories are one user, who has watched the history and its films labelled 1.

    Where that is a history too, as in production's log, the same user was asked again and counts there.
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
    """V √(s² / (s² + ridge)) of the table's singular value decomposition U s V.

    U and s come from the smaller of the two Gram matrices, because there are fewer users than films.
    """
    with threadpool_limits(1):  # sums by another number of threads would round otherwise
        squares, users = np.linalg.eigh((table @ table.T).toarray())
    kept = np.argsort(-squares, kind="stable")[: params.rank]
    kept = kept[squares[kept] > 1e-9 * squares.max()]
    scale = 1 / np.sqrt(squares[kept] + params.ridge)
    return np.asarray((table.T @ users[:, kept]) * scale)


def save(fitted: Fitted, folder: Path) -> None:
    """Write the arrays; the vectors as float32."""
    vectors = fitted.vectors.astype(np.float32)
    np.savez(folder / FILE, films=fitted.films, popularity=fitted.popularity, vectors=vectors)
