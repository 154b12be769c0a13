"""How often the monitor's drift rings without drift, and how soon with it, on this model's simulator.

`make calibrate` (ARGS="--customers 5000 --years 2"): a table as docs/monitoring.md has it. Each world is
simulated, its features computed as the pipeline computes them, and every day looked at as the monitor does.
"""

import argparse
import math
from collections.abc import Iterator
from datetime import datetime, timedelta

import ibis
import numpy as np
import pandas as pd
import pyarrow as pa

from loop.core import params
from loop.monitoring import log
from loop.monitoring.drift import drift
from loop.monitoring.looks import counts
from models.fraud_detector import features, source

DAY = timedelta(days=1)
WARM, TRAIN = 37, 90  # days until all windows of the features are full; days that the reference is drawn from
REFERENCE = 20_000  # rows, as `train` draws
BINS = 10  # of PSI: the training amounts' deciles
CHANGES = {"small": 0.1, "middle": 0.3, "large": 1.0}  # PSI of TX_AMOUNT


def main() -> None:
    """Print the table."""
    args = _arguments()
    rules = params.Monitor()
    print(f"{args.customers} customers, {args.terminals} terminals, {args.seeds} worlds\n")
    print("| drift | PSI | amounts | days until it rings, in each world |\n|---|---|---|---|")
    for name, psi in CHANGES.items():
        factor = _factor(args, psi)
        told = ", ".join(str(_detected(args, seed, factor, rules) or "never") for seed in range(args.seeds))
        print(f"| {name} | {psi} | {factor:.2f} | {told} |", flush=True)
    quiet = []
    for seed in range(args.seeds):
        world = _world(args, seed, TRAIN + 365 * args.years)
        quiet.append(list(looks(world, rules, TRAIN + 7, args.every)))
    rings = sum(sum(_begins([score >= rules.drift for score in run])) for run in quiet)
    told = f"{rings} rings in {sum(map(len, quiet))} looks, one in {args.every} days; furthest"
    print(f"| none | 0 | 1 | {told} {max(map(max, quiet)):.2f} |")


def _detected(args: argparse.Namespace, seed: int, factor: float, rules: params.Monitor) -> int | None:
    """After how many days of drift the first look rings; None where none of 14 does."""
    begin = TRAIN + 8 + seed  # another weekday in each world
    change = source.Drift.model_validate({"from_day": WARM + begin, "amounts": factor})
    world = _world(args, seed, begin + 14, change)
    return next((day for day, far in enumerate(looks(world, rules, begin), 1) if far >= rules.drift), None)


def looks(world: pd.DataFrame, rules: params.Monitor, begin: int, every: int = 1) -> Iterator[float]:
    """For each day from `begin` on: the furthest distance that counts. No look knows of another."""
    start = world["event"].iloc[0].floor("D").to_pydatetime()
    names = [name for name in world if name not in {"event", "score"}]
    trained = world[world["event"] < start + TRAIN * DAY]
    reference = trained.sample(min(REFERENCE, len(trained)), random_state=0)[names]
    end = start + (begin + 1) * DAY
    while end <= world["event"].iloc[-1].ceil("D"):
        window = _window(world, names, end, rules)
        week = drift(reference, window.rows)
        yield max(counts(week, reference, window, rules.min_rows).values())
        end += every * DAY


def _begins(rings: list[bool]) -> list[bool]:
    """The days on which it began to ring: rings after it ask for nothing, as main has learned that day."""
    return [now and not before for before, now in zip([False, *rings], rings, strict=False)]


def _window(world: pd.DataFrame, names: list[str], end: datetime, rules: params.Monitor) -> log.Window:
    def between(first: datetime, last: datetime) -> pd.DataFrame:
        at = np.searchsorted(world["event"], [np.datetime64(first), np.datetime64(last)])
        return world.iloc[slice(*at)]

    start = end - rules.window_days * DAY
    rows, before = between(start, end), between(end - 8 * DAY, end - 7 * DAY)
    return log.Window(
        start=start,
        end=end,
        covered_days=rules.window_days,
        rows=rows[names].reset_index(drop=True),
        days=rows["event"].dt.floor("D").reset_index(drop=True),
        last=(rows["event"] >= end - DAY).reset_index(drop=True),
        before=before[names],
        learned=before.iloc[:0][names],
        versions={"simulated": len(rows)},
        labelled=rows.iloc[:0],
        unlabelled=0,
        logged=len(rows),
        broken=0,
        unmatched=0,
    )


def _world(
    args: argparse.Namespace, seed: int, days: int, change: source.Drift | None = None
) -> pd.DataFrame:
    """`days` days of features by time, after the days that fill their windows."""
    sizes = {"customers": args.customers, "terminals": args.terminals, "days": WARM + days}
    wanted = source.Params.model_validate({"seed": seed, **sizes, "drift": change})
    table: pa.Table = features.compute(ibis.memtable(source.simulate(wanted)), features.Params()).to_pyarrow()
    frame = table.select(["TX_DATETIME", *features.FEATURES]).to_pandas().sort_values("TX_DATETIME")
    frame = frame.rename(columns={"TX_DATETIME": "event"})
    begin = frame["event"].iloc[0].floor("D") + WARM * DAY
    return frame[frame["event"] >= begin].astype(dict.fromkeys(features.FEATURES, "float32"))


def _factor(args: argparse.Namespace, wanted: float) -> float:
    """By how much amounts must rise for TX_AMOUNT's PSI to be the wanted one."""
    sizes = {"customers": args.customers, "terminals": args.terminals, "days": 30}
    few = source.Params.model_validate(sizes)
    amounts = source.simulate(few)["TX_AMOUNT"].to_numpy()
    low, high = 1.0, 5.0
    while high - low > 0.001:  # noqa: PLR2004 — as exact as it is printed
        middle = (low + high) / 2
        low, high = (middle, high) if _psi(amounts, amounts * middle) < wanted else (low, middle)
    return high


def _psi(then: np.ndarray, now: np.ndarray) -> float:
    edges = np.quantile(then, np.linspace(0, 1, BINS + 1)[1:-1])
    shares = [np.bincount(np.searchsorted(edges, side), minlength=BINS) / len(side) for side in (then, now)]
    return float(sum((b - a) * math.log(b / a) for a, b in zip(*shares, strict=True)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--terminals", type=int, default=2000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--years", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="days between two looks where nothing drifts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
