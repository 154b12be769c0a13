"""The world that the Fraud Detection Handbook publishes: customers who pay at terminals near them, and fraud.

Method: chapter 3, "Transaction data simulator", of https://fraud-detection-handbook.github.io
Every day has random streams of its own, so a longer world continues a shorter one row for row, and drift
changes nothing before its first day.
"""

from datetime import date, timedelta
from enum import IntEnum

import numpy as np
import pyarrow as pa
from pydantic import Field
from scipy.spatial import cKDTree

from loop.core.params import Section

from .schema import COLUMNS

DAY = 86_400  # seconds
YEAR, SATURDAY = 365.25, 5  # days; the number of a weekday
SIDE = 100.0  # of the square map
LARGE = 220  # an amount over this is fraud of scenario 1
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28  # terminals compromised each day, and for how long
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14  # customers whose cards leak each day, and for how long
BURST, SMALL, NIGHT = 10, (1.0, 5.0), 5 * 3600  # the new pattern: payments a card, amounts, before 05:00

Rows = dict[str, np.ndarray]


class Drift(Section):
    """How the world changes from one day on."""

    from_day: int = Field(ge=0)  # 0 is the first day
    amounts: float = Field(1.0, gt=0)  # every amount is multiplied by this; what is fraud stays fraud
    new_pattern: int = Field(0, ge=0)  # cards a day that make a burst of small payments at night: fraud 4


class Season(Section):
    """How a calendar moves honest payments; the published world has none."""

    weekend_payments: float = Field(1.0, gt=0)  # on a Saturday or Sunday, to one of another day
    weekend_amounts: float = Field(1.0, gt=0)
    year_payments: float = Field(0.0, ge=0, lt=1)  # height of a wave of one year, highest on 1 July
    year_amounts: float = Field(0.0, ge=0, lt=1)
    advent_payments: float = Field(1.0, gt=0)  # on the 24 days before Christmas, to another day's
    advent_amounts: float = Field(1.0, gt=0)

    def payments(self, day: date) -> float:
        """How many payments that day brings, to a day of no season."""
        return _season(day, self.weekend_payments, self.year_payments, self.advent_payments)

    def amounts(self, day: date) -> float:
        """How high its amounts are."""
        return _season(day, self.weekend_amounts, self.year_amounts, self.advent_amounts)


class Params(Section):
    """The published world is the default one."""

    seed: int = 0
    customers: int = Field(5000, ge=CUSTOMERS_A_DAY)
    terminals: int = Field(10_000, ge=TERMINALS_A_DAY)
    days: int = Field(183, gt=0)
    start: date = date(2018, 4, 1)
    radius: float = Field(5.0, gt=0)  # how far from home a customer pays, on a map of 100 x 100
    season: Season | None = None
    drift: Drift | None = None

    def today(self, day: int) -> date:
        """The date of a day by its number."""
        return self.start + timedelta(days=day)


class Stream(IntEnum):
    """What a random stream is for; each has one a day."""

    WORLD = 0
    SPENDING = 1
    COMPROMISED = 2
    DRIFT = 3


class World:
    """Customers and the terminals each can reach."""

    def __init__(self, params: Params) -> None:
        random = _random(params, Stream.WORLD)
        homes = random.uniform(0, SIDE, (params.customers, 2))
        self.mean = random.uniform(5, 100, params.customers)  # of a payment
        self.rate = random.uniform(0, 4, params.customers)  # payments a day
        terminals = cKDTree(random.uniform(0, SIDE, (params.terminals, 2)))
        near = terminals.query_ball_point(homes, params.radius, return_sorted=True)
        self.count = np.array([len(some) for some in near])
        self.start = np.concatenate([[0], np.cumsum(self.count)[:-1]])
        self.near: np.ndarray = np.concatenate([np.asarray(some, dtype=np.int32) for some in near])
        self.rate[self.count == 0] = 0  # nowhere to pay

    def terminals(self, customers: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """One reachable terminal for each of `customers`."""
        chosen = (random.random(len(customers)) * self.count[customers]).astype(np.int64)
        terminals: np.ndarray = self.near[self.start[customers] + chosen]
        return terminals


class Compromised:
    """Terminals and customers in criminal hands, day by day."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.terminal_until = np.zeros(params.terminals, dtype=np.int64)
        self.customer_until = np.zeros(params.customers, dtype=np.int64)

    def commit(self, day: int, rows: Rows) -> None:
        """Draw the day's victims and mark the fraud in its rows; later scenarios override earlier ones."""
        random = _random(self.params, Stream.COMPROMISED, day)
        terminals = random.choice(self.params.terminals, TERMINALS_A_DAY, replace=False)
        customers = random.choice(self.params.customers, CUSTOMERS_A_DAY, replace=False)
        self.terminal_until[terminals] = day + TERMINAL_DAYS
        self.customer_until[customers] = day + CUSTOMER_DAYS
        third = random.random(len(rows["amount"])) < 1 / 3
        leaked = third & (self.customer_until[rows["customer"]] > day)
        rows["scenario"][rows["amount"] > LARGE] = 1
        rows["scenario"][self.terminal_until[rows["terminal"]] > day] = 2
        rows["scenario"][leaked] = 3
        rows["amount"][leaked] *= 5


def simulate(params: Params) -> pa.Table:
    """Simulate `params.days` days of transactions, by time: COLUMNS, every label known.

    Departs from the handbook in one thing: it makes exactly a third of a leaked card's payments fraud,
    looking 14 days ahead; here each is one with probability 1/3, as a day must not depend on later ones.
    """
    world, compromised = World(params), Compromised(params)
    days = []
    for day in range(params.days):
        rows = _spend(params, world, day)
        compromised.commit(day, rows)
        if params.season:
            rows["amount"] *= params.season.amounts(params.today(day))
        if params.drift and day >= params.drift.from_day:
            rows = _drifted(params, params.drift, world, day, rows)
        rows["day"] = np.full(len(rows["second"]), day)
        order = np.argsort(rows["second"], kind="stable")
        days.append({name: values[order] for name, values in rows.items()})
    return _table(params, {name: np.concatenate([rows[name] for rows in days]) for name in days[0]})


def _season(day: date, weekend: float, wave: float, advent: float) -> float:
    of_year = 1 + wave * np.cos(2 * np.pi * (day - date(day.year, 7, 1)).days / YEAR)
    before_christmas = date(day.year, 12, 1) <= day <= date(day.year, 12, 24)
    weekend = weekend if day.weekday() >= SATURDAY else 1.0
    return float(of_year * weekend * (advent if before_christmas else 1.0))


def _random(params: Params, stream: Stream, day: int = 0) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(params.seed, spawn_key=(stream, day)))


def _spend(params: Params, world: World, day: int) -> Rows:
    """One day's honest payments, in the order of customers."""
    random = _random(params, Stream.SPENDING, day)
    often = params.season.payments(params.today(day)) if params.season else 1.0
    customer = np.repeat(np.arange(params.customers), random.poisson(world.rate * often))
    second = random.normal(DAY / 2, 20_000, len(customer))
    today = (second > 0) & (second < DAY)  # the handbook drops the rest
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


def _drifted(params: Params, drift: Drift, world: World, day: int, rows: Rows) -> Rows:
    """The day after prices have risen and a new kind of fraud has appeared."""
    random = _random(params, Stream.DRIFT, day)
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
