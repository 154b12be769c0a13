"""Measures how often the monitor's drift check gives false alarms, and how soon it detects real drift.

`make calibrate MODEL=fraud_detector ARGS="--customers 5000"` prints a table for docs/monitoring.md. Each
simulated world is processed as in production: the pipeline's code computes features, and every day is checked
as the monitor does. An alarm retrains the model, so later checks compare with the new training data.
"""

import argparse
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import islice

import ibis
import numpy as np
import pandas as pd

from loop.core import params
from loop.monitoring import log
from loop.monitoring.drift import counts, drift

from . import features, source

DAY, RULES, NAMES = timedelta(days=1), params.Monitor(), list(features.FEATURES)
WARM, TRAIN = 37, 90  # days until all windows of the features are full; days that a model trains on
LATE = 14  # days of label delay and test window; the model does not train on newer rows
YEAR, PATIENCE = 365, 14  # number of days to check in a world without drift, and in a world with drift
REFERENCE = 20_000  # maximum rows of the reference, as in the stage `train`
# sizes of drift: the factor of all amounts, and the PSI of TX_AMOUNT that it causes with 600 customers
CHANGES = {"small": (1.28, 0.1), "middle": (1.55, 0.3), "large": (2.41, 1.0)}
# a strong seasonal pattern of payments and amounts; chosen, not measured
SEASON = source.Season(weekend=(1.2, 1.1), year=(0.1, 0.05), advent=(1.2, 1.1))
QUIET = {  # worlds without drift: the season, and whether the model is retrained each Monday
    "no season, no weekly retraining": (None, False),
    "seasons, weekly retraining": (SEASON, True),
    "seasons, no weekly retraining": (SEASON, False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=600)
    parser.add_argument("--terminals", type=int, default=1200)
    parser.add_argument("--seeds", type=int, default=3, help="number of worlds to simulate")
    parser.add_argument("--jobs", type=int, default=1, help="worlds to simulate at a time")
    args = parser.parse_args()
    print(f"{args.customers} customers, {args.terminals} terminals, {args.seeds} worlds\n")
    print("| drift | PSI | amounts | days until the alarm, in each world |\n|---|---|---|---|")
    with ProcessPoolExecutor(args.jobs) as pool:
        for name, (factor, psi) in CHANGES.items():
            days = list(pool.map(partial(_detected, args, factor), range(args.seeds)))
            told = ", ".join(str(day or "never") for day in days)
            print(f"| {name} | {psi} | {factor:.2f} | {told} |", flush=True)
        print("\n| no drift | retrainings in a year, in each world | largest |\n|---|---|---|")
        for name, (season, weekly) in QUIET.items():
            years = list(pool.map(partial(_year, args, season, weekly), range(args.seeds)))
            told = ", ".join(str(sum(far >= RULES.drift for far in year)) for year in years)
            print(f"| {name} | {told} | {max(map(max, years)):.2f} |", flush=True)


def _detected(args: argparse.Namespace, factor: float, seed: int) -> int | None:
    """Return the day of drift on which the check first raises an alarm; None if not within 14 days."""
    # drift starts a week after the first check, on another weekday in each world
    begin = TRAIN + LATE + 7 + seed
    change = source.Drift.model_validate({"from_day": WARM + begin, "amounts": factor})
    world = _world(args, seed, begin + PATIENCE, SEASON, change)
    found = islice(looks(world, weekly=True), begin - TRAIN - LATE, None)
    return next((day for day, far in enumerate(found, 1) if far >= RULES.drift), None)


def _year(args: argparse.Namespace, season: source.Season | None, weekly: bool, seed: int) -> list[float]:
    """Return the largest drift distance on each day of a year without drift."""
    return list(looks(_world(args, seed, TRAIN + LATE + YEAR, season), weekly=weekly))


def looks(world: pd.DataFrame, *, weekly: bool) -> Iterator[float]:
    """Yield the largest drift distance at the end of each day, from the first model on.

    An alarm retrains the model, and so does each Monday if `weekly`. The reference of the new model is used
    from the next day on.
    """
    start = world["event"].iloc[0].floor("D").to_pydatetime()
    end, trained = start + (TRAIN + LATE + 1) * DAY, None
    reference = _reference(world, end - DAY)
    while end <= world["event"].iloc[-1].ceil("D"):
        window = _window(world, end, trained)
        far = max(counts(drift(reference, window.rows), reference, window, RULES.min_rows).values())
        yield far
        if far >= RULES.drift or (weekly and end.weekday() == 0):
            trained, reference = end, _reference(world, end)
        end += DAY


def _reference(world: pd.DataFrame, until: datetime) -> pd.DataFrame:
    trained = _between(world, until - (TRAIN + LATE) * DAY, until - LATE * DAY)
    return trained.sample(min(REFERENCE, len(trained)), random_state=0)[NAMES]


def _between(world: pd.DataFrame, first: datetime, last: datetime) -> pd.DataFrame:
    at = np.searchsorted(world["event"], [np.datetime64(first), np.datetime64(last)])
    return world.iloc[slice(*at)]


def _window(world: pd.DataFrame, end: datetime, trained: datetime | None) -> log.Window:
    start = end - RULES.window_days * DAY
    rows, before = _between(world, start, end), _between(world, end - 8 * DAY, end - 7 * DAY)
    learned = _between(world, trained - DAY, trained) if trained else rows.iloc[:0]
    return log.Window(
        start=start,
        end=end,
        covered_days=RULES.window_days,
        rows=rows[NAMES].reset_index(drop=True),
        days=rows["event"].dt.floor("D").reset_index(drop=True),
        last=(rows["event"] >= end - DAY).reset_index(drop=True),
        before=before[NAMES],
        learned=learned[NAMES],
        versions={"simulated": len(rows)},
        labelled=rows.iloc[:0],
        unlabelled=0,
        logged=len(rows),
        latest=end.timestamp(),
        repeated=0,
        broken=0,
        unmatched=0,
    )


def _world(
    args: argparse.Namespace,
    seed: int,
    days: int,
    season: source.Season | None,
    change: source.Drift | None = None,
) -> pd.DataFrame:
    """Return `days` days of features sorted by time, after the days that fill their windows."""
    sizes = {"customers": args.customers, "terminals": args.terminals, "days": WARM + days}
    wanted = source.Params.model_validate({"seed": seed, **sizes, "season": season, "drift": change})
    table = features.compute(ibis.memtable(source.simulate(wanted)), features.Params())
    frame: pd.DataFrame = table.select("TX_DATETIME", *NAMES).to_pandas()
    frame = frame.rename(columns={"TX_DATETIME": "event"}).sort_values("event")
    begin = frame["event"].iloc[0].floor("D") + WARM * DAY
    return frame[frame["event"] >= begin].astype(dict.fromkeys(NAMES, "float32"))


if __name__ == "__main__":
    main()
