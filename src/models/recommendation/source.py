"""MovieLens ratings as questions: did the user watch this film next, or is it one that they never rated?

Each user's last fifth of ratings is the test part. The last fifth of the others are the questions to train
on, and all before these are history only. The questions of a part are asked at the time of its first rating.
Each part also asks about films that the user never rated, drawn uniformly from those of the training part.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from loop.core.models import arrow

from .schema import COLUMNS

HELD_OUT = 0.2  # of a user's ratings, the newest
UNRATED = 50  # films of each user and part
NAMES = {"userId": "user", "movieId": "film", "rating": "rating", "timestamp": "at"}


def read(files: Mapping[str, Path]) -> Iterable[pa.Table]:
    """One row a rating and one a film that was drawn; the files are pickled pandas frames or Parquet."""
    ratings = pd.concat([_frame(path) for path in files.values()])[[*NAMES]].rename(columns=NAMES)
    rows = _questions(ratings.sort_values(["user", "at", "film"], ignore_index=True))
    rows = pd.concat([rows, _unrated(rows)])
    rows["id"] = rows.user.astype(str) + "-" + rows.film.astype(str)
    rows["at"] = pd.to_datetime(rows["at"], unit="s").astype("datetime64[us]")
    schema = pa.schema({name: arrow(kind) for name, kind in COLUMNS.items()})
    yield pa.Table.from_pandas(rows, schema, preserve_index=False)


def _frame(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    return pd.read_pickle(path, compression="xz")  # noqa: S301 - the engine has checked its bytes


def _questions(ratings: pd.DataFrame) -> pd.DataFrame:
    """Ratings, in order of user and time, with their part, and the questions' common time."""
    users = ratings.groupby("user")
    place, count = users.cumcount(), users["film"].transform("size")
    test = count - np.maximum(1, (count * HELD_OUT).astype(int))  # the place of a user's first test rating
    train = test - np.maximum(1, (test * HELD_OUT).astype(int))
    part = np.where(place >= test, "test", "train")
    begins = np.where(place >= test, test, np.where(place >= train, train, place))
    at = ratings["at"].to_numpy()[np.arange(len(ratings)) - place + np.maximum(begins, 0)]
    return ratings.assign(part=part, at=at, watched=1.0)


def _unrated(rows: pd.DataFrame) -> pd.DataFrame:
    """Films that each user has not rated, as many for both parts; the user's number is the seed."""
    films = np.unique(rows.film[rows.part == "train"])
    asked = rows.groupby(["part", "user"])["at"].max()
    drawn = []
    for user, rated in rows.groupby("user")["film"]:
        others = np.setdiff1d(films, rated)
        chosen = np.random.default_rng(user).permutation(others)[: 2 * UNRATED]
        for part, some in zip(("train", "test"), np.array_split(chosen, 2), strict=True):
            if (part, user) in asked:
                at = asked[part, user]
                drawn.append(pd.DataFrame({"user": user, "film": some, "part": part, "at": at}))
    return pd.concat(drawn).assign(rating=np.nan, watched=0.0)
