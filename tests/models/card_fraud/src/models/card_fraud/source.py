"""Payments by seeded draws, day by day: a longer world continues a shorter one."""

from datetime import date

import numpy as np
import pyarrow as pa

from loop.core.params import Section

from .schema import COLUMNS

DAY = 86_400  # seconds
TERMINALS, BAD = 200, 6  # the first BAD of them are in criminal hands
LARGE = 150.0  # an amount over this is fraud of scenario 1; at a bad terminal half of all payments are of 2


class Params(Section):
    """`amounts` multiplies the amounts from day `drift_from` on; no label changes."""

    seed: int = 0
    cards: int = 600
    days: int = 70
    start: date = date(2018, 4, 1)
    drift_from: int | None = None
    amounts: float = 1.0


def simulate(params: Params) -> pa.Table:
    """Return on average two payments a card and day, sorted by time, with every label known."""
    days = [_day(params, day) for day in range(params.days)]
    columns = {name: np.concatenate([day[name] for day in days]) for name in days[0]}
    columns["TRANSACTION_ID"] = np.arange(len(columns["TX_AMOUNT"]))
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in COLUMNS.items()})


def _day(params: Params, day: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([params.seed, day])
    count = rng.poisson(2 * params.cards)
    second = np.sort(rng.integers(0, DAY, count)) + day * DAY
    terminal = rng.integers(0, TERMINALS, count)
    amount = np.round(rng.gamma(2, 20, count), 2)
    stolen = (terminal < BAD) & (rng.random(count) < 1 / 2)
    scenario = np.where(amount > LARGE, 1, np.where(stolen, 2, 0))
    dearer = params.amounts if params.drift_from is not None and day >= params.drift_from else 1.0
    return {
        "TX_DATETIME": np.datetime64(params.start, "us") + second.astype("timedelta64[s]"),
        "CUSTOMER_ID": rng.integers(0, params.cards, count),
        "TERMINAL_ID": terminal,
        "TX_AMOUNT": np.round(amount * dearer, 2),
        "TX_FRAUD": (scenario > 0).astype(np.int8),
        "TX_FRAUD_SCENARIO": scenario,
    }
