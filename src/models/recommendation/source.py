"""MovieLens ratings as questions: did the user watch this film next, or is it one that they never rated?

Each user's last fifth of ratings is the test part. Of the others, the last tenth are the questions to train
on, and all before these are history only. Each part also asks about films that the user never rated, drawn
uniformly from those of the training part. These have the time at which the questions of their part begin.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from loop.core.models import arrow

from .schema import COLUMNS

TEST = 0.2  # of a user's ratings, the newest
ASKED = 0.1  # of the others: about as long histories as in the test, so that drift is measured against these
UNRATED = {"train": 25, "test": 50}  # films drawn for each user
NAMES = {"userId": "user", "movieId": "film", "rating": "rating", "timestamp": "at"}


def read(files: Mapping[str, Path]) -> Iterable[pa.Table]:
    """One row a rating and one a film that was drawn, of Parquet, CSV or xz-pickled pandas frames."""
    ratings = pd.concat([_frame(path) for path in files.values()])[[*NAMES]].rename(columns=NAMES)
    ratings = ratings.sort_values(["user", "at", "film"], ignore_index=True)
    # Ratings of one second follow each other by a microsecond, so that each has its place in time.
    ratings["at"] = ratings["at"] * 1_000_000 + ratings.groupby(["user", "at"], dropna=False).cumcount()
    users = ratings.groupby("user", dropna=False)
    place, count = users.cumcount(), users["film"].transform("size")
    test = count - np.maximum(1, (count * TEST).astype(int))  # the place of a user's first test rating
    train = test - np.maximum(1, (test * ASKED).astype(int))  # and of the first to train on
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
    return pd.read_pickle(path, compression="xz")  # noqa: S301 - the engine has checked its bytes


def _unrated(rated: pd.DataFrame, begins: Mapping[str, pd.Series]) -> Iterable[pd.DataFrame]:
    """Films that each user has not rated, for both parts; the user's number is the seed."""
    films = np.unique(rated.film[rated.part == "train"])
    times = {part: rated[first].set_index("user")["at"] for part, first in begins.items()}
    for user, own in rated.groupby("user")["film"]:
        chosen = np.random.default_rng(abs(int(user))).permutation(np.setdiff1d(films, own))
        train, test = np.split(chosen, [UNRATED["train"]])
        for part, some in (("train", train), ("test", test[: UNRATED["test"]])):
            if user in times[part]:
                row = {"user": user, "part": part, "at": times[part][user], "rating": np.nan, "watched": 0.0}
                yield pd.DataFrame({"film": some, **row})
