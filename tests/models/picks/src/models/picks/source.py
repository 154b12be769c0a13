"""Users who like films of some kinds, by a seeded draw over a hundred days."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from loop.core.models import arrow
from loop.core.params import Section

from .schema import COLUMNS

FILMS, KINDS = 60, 6


class Params(Section):
    rows: int = 4000
    users: int = 150


def simulate(params: Params) -> pa.Table:
    """Return one row a film that a user was shown, in the order of time. Film f is of the kind f mod 6."""
    rng = np.random.default_rng(0)
    likes = rng.dirichlet(np.full(KINDS, 0.3), params.users)
    users, films = rng.integers(0, params.users, params.rows), rng.integers(0, FILMS, params.rows)
    seen = [
        rng.choice(FILMS, 8, p=likes[user][np.arange(FILMS) % KINDS] / (FILMS / KINDS)).tolist()
        for user in users
    ]
    liked = likes[users, films % KINDS]
    minutes = np.sort(rng.integers(0, 100 * 24 * 60, params.rows))
    columns = {
        "id": range(params.rows),
        "at": np.datetime64(datetime(2026, 1, 1), "us") + minutes * np.timedelta64(60_000_000, "us"),  # noqa: DTZ001
        "user": [f"u-{user}" for user in users],
        "history": seen,
        "film": films,
        "stars": np.clip(1 + 4 * liked + rng.normal(0, 0.4, params.rows), 0, 5).round(1),
    }
    return pa.table({name: pa.array(columns[name], arrow(kind)) for name, kind in COLUMNS.items()})
