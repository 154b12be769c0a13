"""Customers' states by a seeded draw, over a hundred days."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from loop.core.params import Section

from .schema import COLUMNS


class Params(Section):
    rows: int = 4000


def simulate(params: Params) -> pa.Table:
    """Return one row for each recorded state of a customer, in the order of time."""
    rng = np.random.default_rng(0)
    count = params.rows
    orders = rng.poisson(2, count)
    ago = np.where(orders > 0, rng.exponential(20, count), np.nan)
    pull = np.stack([np.full(count, 1.0), 0.8 * orders, 2.5 * (np.nan_to_num(ago, nan=60) < 10)], axis=1)
    chosen = (pull + rng.gumbel(0, 0.5, (count, 3))).argmax(axis=1)
    minutes = np.sort(rng.integers(0, 100 * 24 * 60, count))
    columns = {
        "id": range(count),
        "at": np.datetime64(datetime(2026, 1, 1), "us") + minutes * np.timedelta64(60_000_000, "us"),  # noqa: DTZ001
        "customer": rng.integers(0, 300, count),
        "orders": orders,
        "days_ago": pa.array(ago, from_pandas=True),
        "next": np.array(["nothing", "call", "visit"])[chosen],
    }
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})
