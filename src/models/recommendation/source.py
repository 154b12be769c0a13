"""Turns MovieLens ratings into questions whether a user watched a film next, or never rated it.

Each user's last fifth of ratings is the test part. Of the other ratings, the last tenth are training
questions, and earlier ratings only form the history. Each part also has questions about films that the user
never rated, drawn uniformly from the films of the training part. Their time is the time at which the part's
questions begin.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from loop.core.models import arrow

from .schema import COLUMNS

TEST = 0.2  # share of a user's ratings for the test; the newest ratings are taken
# Share of a user's other ratings to train on. Histories are then about as long as in the test, which makes
# them comparable for drift.
ASKED = 0.1
UNRATED = {"train": 25, "test": 50}  # number of unrated films drawn for each user
NAMES = {"userId": "user", "movieId": "film", "rating": "rating", "timestamp": "at"}


def read(files: Mapping[str, Path]) -> Iterable[pa.Table]:
    """Yield one row per rating and per drawn film, from Parquet, CSV, or pandas frames pickled with xz."""
    ratings = pd.concat([_frame(path) for path in files.values()])[[*NAMES]].rename(columns=NAMES)
    ratings = ratings.sort_values(["user", "at", "film"], ignore_index=True)
    # Ratings in the same second are placed a microsecond apart, so that their order is defined.
    ratings["at"] = ratings["at"] * 1_000_000 + ratings.groupby(["user", "at"], dropna=False).cumcount()
    users = ratings.groupby("user", dropna=False)
    place, count = users.cumcount(), users["film"].transform("size")
    test = count - np.maximum(1, (count * TEST).astype(int))  # index of a user's first test rating
    train = test - np.maximum(1, (test * ASKED).astype(int))  # index of a user's first rating to train on
    rated = ratings.assign(part=np.where(place >= test, "test", "train"), watched=1.0)
    begins = {"train": place == train, "test": place == test}
    rows = pd.concat([rated, *_unrated(rated, begins)])
    rows["id"] = rows.user.astype(str) + "-" + rows.film.astype(str)
    rows["at"] = rows["at"].astype("datetime64[us]")
    schema = pa.schema({name: arrow(kind) for name, kind in COLUMNS.items()})
    yield pa.Table.from_pandas(rows, schema, preserve_index=False)


def _frame(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_pickle(path, compression="xz")  # noqa: S301 - the engine has verified the file's SHA-256


def _unrated(rated: pd.DataFrame, begins: Mapping[str, pd.Series]) -> Iterable[pd.DataFrame]:
    """Yield films that each user has not rated, for both parts. The user's number is the random seed."""
    films = np.unique(rated.film[rated.part == "train"])
    times = {part: rated[first].set_index("user")["at"] for part, first in begins.items()}
    for user, own in rated.groupby("user")["film"]:
        chosen = np.random.default_rng(abs(int(user))).permutation(np.setdiff1d(films, own))
        train, test = np.split(chosen, [UNRATED["train"]])
        for part, some in (("train", train), ("test", test[: UNRATED["test"]])):
            if user in times[part]:
                row = {"user": user, "part": part, "at": times[part][user], "rating": np.nan, "watched": 0.0}
                yield pd.DataFrame({"film": some, **row})
