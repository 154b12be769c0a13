"""Measures how often the monitor's drift check gives false alarms, and how soon it detects real drift.

`make calibrate MODEL=fraud_detector ARGS="--customers 5000"` prints a table for docs/monitoring.md. Each
simulated world is processed as in production: the pipeline's code computes features, and every day is checked
as the monitor does. An alarm retrains the model, so later checks compare with the new training data.
"""

import argparse
import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from time import process_time

import ibis
import numpy as np
import pandas as pd
from scipy.optimize import bisect

from loop.core import params
from loop.monitoring import log
from loop.monitoring.drift import counts, drift

from . import features, source

DAY = timedelta(days=1)
WARM, TRAIN = 37, 90  # days until all windows of the features are full; days that a model trains on
LATE = 14  # days of label delay and test window; the model does not train on newer rows
YEAR, PATIENCE = 365, 14  # number of days to check in a world without drift, and in a world with drift
REFERENCE = 20_000  # maximum rows of the reference, as in the stage `train`
BINS = 10  # number of PSI bins, which are deciles of the training amounts
# sizes of drift as the population stability index of TX_AMOUNT
CHANGES = {"small": 0.1, "middle": 0.3, "large": 1.0}
SEASON = source.Season(  # a strong seasonal pattern of payments and amounts; chosen, not measured
    weekend_payments=1.2,
    weekend_amounts=1.1,
    year_payments=0.1,
    year_amounts=0.05,
    advent_payments=1.2,
    advent_amounts=1.1,
)
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
        for name, psi in CHANGES.items():
            factor = _factor(args, psi)
            days = list(pool.map(partial(_detected, args, factor), range(args.seeds)))
            told = ", ".join(str(day or "never") for day in days)
            print(f"| {name} | {psi} | {factor:.2f} | {told} |", flush=True)
        print("\n| no drift | retrainings in a year, in each world | largest | CPU s |\n|---|---|---|---|")
        for name, (season, weekly) in QUIET.items():
            years = list(pool.map(partial(_year, args, season, weekly), range(args.seeds)))
            retrainings, furthest, seconds = zip(*years, strict=True)
            told = ", ".join(map(str, retrainings))
            print(f"| {name} | {told} | {max(furthest):.2f} | {sum(seconds):.0f} |", flush=True)


def _detected(args: argparse.Namespace, factor: float, seed: int) -> int | None:
    """Return the day of drift on which the check first raises an alarm; None if not within 14 days."""
    # drift starts a week after the first check, on another weekday in each world
    begin = TRAIN + LATE + 7 + seed
    change = source.Drift.model_validate({"from_day": WARM + begin, "amounts": factor})
    world = _world(args, seed, begin + PATIENCE, SEASON, change)
    found = islice(looks(world, params.Monitor(), weekly=True), begin - TRAIN - LATE, None)
    return next((day for day, far in enumerate(found, 1) if far >= params.Monitor().drift), None)


def _year(
    args: argparse.Namespace, season: source.Season | None, weekly: bool, seed: int
) -> tuple[int, float, float]:
    """Return the retrainings in a year without drift, the largest distance found, and the CPU seconds."""
    began, rules = process_time(), params.Monitor()
    world = _world(args, seed, TRAIN + LATE + YEAR, season)
    found = list(looks(world, rules, weekly=weekly))
    return sum(far >= rules.drift for far in found), max(found), process_time() - began


def looks(world: pd.DataFrame, rules: params.Monitor, *, weekly: bool) -> Iterator[float]:
    """Yield the largest drift distance at the end of each day, from the first model on.

    An alarm retrains the model, and so does each Monday if `weekly`. The reference of the new model is used
    from the next day on.
    """
    names = [name for name in world if name not in {"event", "score"}]
    start = world["event"].iloc[0].floor("D").to_pydatetime()
    end, trained = start + (TRAIN + LATE + 1) * DAY, None
    reference = _reference(world, names, end - DAY)
    while end <= world["event"].iloc[-1].ceil("D"):
        window = _window(world, names, end, rules, trained)
        far = max(counts(drift(reference, window.rows), reference, window, rules.min_rows).values())
        yield far
        if far >= rules.drift or (weekly and end.weekday() == 0):
            trained, reference = end, _reference(world, names, end)
        end += DAY


def _reference(world: pd.DataFrame, names: list[str], until: datetime) -> pd.DataFrame:
    trained = _between(world, until - (TRAIN + LATE) * DAY, until - LATE * DAY)
    return trained.sample(min(REFERENCE, len(trained)), random_state=0)[names]


def _between(world: pd.DataFrame, first: datetime, last: datetime) -> pd.DataFrame:
    at = np.searchsorted(world["event"], [np.datetime64(first), np.datetime64(last)])
    return world.iloc[slice(*at)]


def _window(
    world: pd.DataFrame, names: list[str], end: datetime, rules: params.Monitor, trained: datetime | None
) -> log.Window:
    start = end - rules.window_days * DAY
    rows, before = _between(world, start, end), _between(world, end - 8 * DAY, end - 7 * DAY)
    learned = _between(world, trained - DAY, trained) if trained else rows.iloc[:0]
    return log.Window(
        start=start,
        end=end,
        covered_days=rules.window_days,
        rows=rows[names].reset_index(drop=True),
        days=rows["event"].dt.floor("D").reset_index(drop=True),
        last=(rows["event"] >= end - DAY).reset_index(drop=True),
        before=before[names],
        learned=learned[names],
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
    frame: pd.DataFrame = table.select("TX_DATETIME", *features.FEATURES).to_pandas()
    frame = frame.rename(columns={"TX_DATETIME": "event"}).sort_values("event")
    begin = frame["event"].iloc[0].floor("D") + WARM * DAY
    return frame[frame["event"] >= begin].astype(dict.fromkeys(features.FEATURES, "float32"))


def _factor(args: argparse.Namespace, wanted: float) -> float:
    """Return the factor by which amounts must rise for TX_AMOUNT to have the PSI `wanted`."""
    sizes = {"customers": args.customers, "terminals": args.terminals, "days": 30}
    amounts = source.simulate(source.Params.model_validate(sizes))["TX_AMOUNT"].to_numpy()
    return float(bisect(lambda factor: _psi(amounts, amounts * factor) - wanted, 1, 5, xtol=0.001))


def _psi(then: np.ndarray, now: np.ndarray) -> float:
    edges = np.quantile(then, np.linspace(0, 1, BINS + 1)[1:-1])
    shares = [np.bincount(np.searchsorted(edges, side), minlength=BINS) / len(side) for side in (then, now)]
    return float(sum((b - a) * math.log(b / a) for a, b in zip(*shares, strict=True)))


if __name__ == "__main__":
    main()
