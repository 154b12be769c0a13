"""The Fraud Detection Handbook's simulator: customers pay at terminals near them, and fraud occurs.

Method: chapter 3, "Transaction data simulator", of https://fraud-detection-handbook.github.io. Each day has
its own random streams. So a longer simulation starts with the same rows as a shorter simulation, and drift
changes nothing before its first day.
"""

from datetime import date

import numpy as np
import pyarrow as pa
from pydantic import Field
from scipy.spatial import cKDTree

from loop.core.params import Section

from .schema import COLUMNS

DAY = 86_400  # seconds in a day
SIDE = 100.0  # side of the square map on which customers and terminals are placed
LARGE = 220  # amounts above this are fraud of scenario 1
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28  # newly compromised terminals per day, and for how many days
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14  # customers per day whose cards leak, and for how many days
# The new kind of fraud: payments per card, range of their amounts, and second of the day before which they
# happen.
BURST, SMALL, NIGHT = 10, (1.0, 5.0), 5 * 3600
WORLD, SPENDING, COMPROMISED, DRIFT = range(4)  # purposes of the random streams; each has a stream per day

Rows = dict[str, np.ndarray]


class Drift(Section):
    """How the simulated world changes from one day on."""

    from_day: int = Field(ge=0)  # number of the day from which drift applies; 0 is the first day
    amounts: float = Field(1.0, gt=0)  # factor for the amount of every payment; fraud labels do not change
    # cards per day with a burst of small payments at night, fraud scenario 4
    new_pattern: int = Field(0, ge=0)


class Params(Section):
    """Parameters of the simulator. The defaults are the handbook's parameters."""

    seed: int = 0
    customers: int = Field(5000, ge=CUSTOMERS_A_DAY)
    terminals: int = Field(10_000, ge=TERMINALS_A_DAY)
    days: int = Field(183, gt=0)
    start: date = date(2018, 4, 1)
    radius: float = Field(5.0, gt=0)  # distance from home within which a customer pays, on a map of 100 x 100
    drift: Drift | None = None


class World:
    """Customers, and the terminals within reach of each."""

    def __init__(self, params: Params) -> None:
        random = _random(params, WORLD)
        homes = random.uniform(0, SIDE, (params.customers, 2))
        self.mean = random.uniform(5, 100, params.customers)  # mean amount of each customer's payments
        self.rate = random.uniform(0, 4, params.customers)  # mean payments per day of each customer
        terminals = cKDTree(random.uniform(0, SIDE, (params.terminals, 2)))
        near = terminals.query_ball_point(homes, params.radius, return_sorted=True)
        self.count = np.array([len(some) for some in near])
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.near: np.ndarray = np.concatenate([np.asarray(some, dtype=np.int32) for some in near])
        self.rate[self.count == 0] = 0  # customers without a terminal in reach never pay

    def terminals(self, customers: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return a random reachable terminal for each of `customers`."""
        chosen = (random.random(len(customers)) * self.count[customers]).astype(np.int64)
        terminals: np.ndarray = self.near[self.start[customers] + chosen]
        return terminals


def simulate(params: Params) -> pa.Table:
    """Return `params.days` days of transactions sorted by time, with COLUMNS and all labels known.

    There is one difference to the handbook. The handbook makes exactly a third of a leaked card's payments in
    14 days fraud. Here each payment is fraud with probability 1/3, because a day must not depend on later
    days.
    """
    world, days = World(params), []
    until = {"terminal": np.zeros(params.terminals), "customer": np.zeros(params.customers)}
    for day in range(params.days):
        rows = _spend(params, world, day)
        _defraud(params, day, rows, until)
        if params.drift and day >= params.drift.from_day:
            rows = _drifted(params, params.drift, world, day, rows)
        rows["day"] = np.full(len(rows["second"]), day)
        order = np.argsort(rows["second"], kind="stable")
        days.append({name: values[order] for name, values in rows.items()})
    return _table(params, {name: np.concatenate([rows[name] for rows in days]) for name in days[0]})


def _random(params: Params, stream: int, day: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(params.seed, spawn_key=(stream, day)))


def _spend(params: Params, world: World, day: int) -> Rows:
    """Return one day's honest payments, ordered by customer."""
    random = _random(params, SPENDING, day)
    customer = np.repeat(np.arange(params.customers), random.poisson(world.rate))
    second = random.normal(DAY / 2, 20_000, len(customer))
    today = (second > 0) & (second < DAY)  # a payment outside of the day is dropped, as in the handbook
    customer, second = customer[today], second[today].astype(np.int64)
    mean = world.mean[customer]
    amount = random.normal(mean, mean / 2)
    amount = np.where(amount < 0, random.uniform(0, 2 * mean), amount)
    return {
        "customer": customer,
        "second": second,
        "terminal": world.terminals(customer, random),
        "amount": np.round(amount, 2),
        "scenario": np.zeros(len(customer), dtype=np.int8),
    }


def _defraud(params: Params, day: int, rows: Rows, until: Rows) -> None:
    """Choose the day's new victims and mark fraud in its rows; the later scenario of a row counts.

    `until` has the day on which each terminal and each customer's card is no longer compromised.
    """
    random = _random(params, COMPROMISED, day)
    terminals = random.choice(params.terminals, TERMINALS_A_DAY, replace=False)
    customers = random.choice(params.customers, CUSTOMERS_A_DAY, replace=False)
    until["terminal"][terminals] = day + TERMINAL_DAYS
    until["customer"][customers] = day + CUSTOMER_DAYS
    third = random.random(len(rows["amount"])) < 1 / 3
    leaked = third & (until["customer"][rows["customer"]] > day)
    rows["scenario"][rows["amount"] > LARGE] = 1
    rows["scenario"][until["terminal"][rows["terminal"]] > day] = 2
    rows["scenario"][leaked] = 3
    rows["amount"][leaked] *= 5


def _drifted(params: Params, drift: Drift, world: World, day: int, rows: Rows) -> Rows:
    """Return a day's rows after drift: amounts are multiplied, and bursts of small payments are added."""
    random = _random(params, DRIFT, day)
    able = np.flatnonzero(world.count)
    cards = random.choice(able, min(drift.new_pattern, len(able)), replace=False)
    customer = np.repeat(cards, BURST)
    burst = {
        "customer": customer,
        "second": random.integers(0, NIGHT, len(customer)),
        "terminal": world.terminals(customer, random),
        "amount": random.uniform(*SMALL, len(customer)),
        "scenario": np.full(len(customer), 4, dtype=np.int8),
    }
    rows["amount"] = rows["amount"] * drift.amounts
    return {name: np.concatenate([rows[name], burst[name]]) for name in rows}


def _table(params: Params, rows: Rows) -> pa.Table:
    seconds = rows["day"] * DAY + rows["second"]
    columns = {
        "TRANSACTION_ID": np.arange(len(seconds)),
        "TX_DATETIME": np.datetime64(params.start, "us") + seconds.astype("timedelta64[s]"),
        "CUSTOMER_ID": rows["customer"],
        "TERMINAL_ID": rows["terminal"],
        "TX_AMOUNT": np.round(rows["amount"], 2),
        "TX_FRAUD": rows["scenario"] > 0,
        "TX_FRAUD_SCENARIO": rows["scenario"],
    }
    types = {name: pa.type_for_alias(kind) for name, kind in COLUMNS.items()}
    return pa.table({name: pa.array(columns[name]).cast(kind) for name, kind in types.items()})
