"""Measures how often the gate's confidence interval contains the true difference between two models.

`make calibrate MODEL=fraud_detector PART=coverage` prints the figures of docs/decisions.md. A small and a
large model are trained in one simulated world. In each of the other worlds, the gate's interval of their
difference is computed as in production, once by customers and once by single rows. The true difference for a
world is the mean of the differences in all other worlds.
"""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from loop.core.params import TimeSplit
from loop.core.project import Project
from loop.pipeline import evaluate, features, split, train
from loop.stats import bootstrap

from . import source

# days; WARM fill the features' windows, and a fraud in the KNOWN days before the delay makes its card known
WARM, TRAIN, KNOWN, DELAY, TEST = 37, 90, 7, 7, 7
TREES = {"champion": 50, "challenger": 200}
PROJECT = Project(Path(__file__).parents[3], "fraud_detector")
Edges = tuple[float, float]  # of an interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=1000)
    parser.add_argument("--worlds", type=int, default=100, help="number of worlds in which the gate judges")
    parser.add_argument("--jobs", type=int, default=2, help="worlds to simulate at a time")
    args = parser.parse_args()
    new = multiprocessing.get_context("spawn")  # XGBoost's threads do not survive a fork
    with tempfile.TemporaryDirectory(prefix="coverage-") as made, ProcessPoolExecutor(args.jobs, new) as pool:
        table, by = _world(0, WARM + TRAIN + DELAY + TEST, args.customers)
        for name, trees in TREES.items():
            section = PROJECT.folder.section("estimator", {**PROJECT.params.train, "n_estimators": trees})
            train.train(PROJECT.folder, table, by, section, threshold=0.5, out=Path(made, name))
        worlds = [*pool.map(partial(_judge, Path(made), args.customers), range(1, args.worlds + 1))]
    frauds, seen, *intervals = map(np.array, zip(*worlds, strict=True))
    truth = (seen.sum() - seen) / (len(seen) - 1)
    print(f"{args.worlds} worlds of {args.customers} customers, {frauds.mean():.0f} test frauds on average")
    print(f"differences: mean {seen.mean():+.4f}, standard deviation {seen.std(ddof=1):.4f}")
    for unit, of in zip(("customers", "single rows"), intervals, strict=True):
        contain = (of[:, 0] <= truth) & (truth <= of[:, 1])
        print(f"resampled by {unit}: {contain.sum()} of {len(truth)} intervals contain the true difference")


def _world(seed: int, days: int, customers: int) -> tuple[pa.Table, TimeSplit]:
    """Return the features of a simulated world, and the split that tests on its last days."""
    wanted = source.Params.model_validate({"seed": seed, "customers": customers, "days": days})
    section = PROJECT.folder.section("features", PROJECT.params.features)
    until = np.datetime64(wanted.start) + days
    by = TimeSplit.model_validate(
        {"until": f"{until}T00:00:00", "train_days": TRAIN, "delay_days": DELAY, "test_days": TEST}
    )
    return features.compute(PROJECT.folder, source.simulate(wanted), section), by


def _judge(trained: Path, customers: int, seed: int) -> tuple[int, float, *tuple[Edges, ...]]:
    """Return one world's number of test frauds, difference, and interval by customers and by rows."""
    folder, settings = PROJECT.folder, PROJECT.params
    table, by = _world(seed, WARM + KNOWN + DELAY + TEST, customers)
    own = evaluate.own(folder, settings.evaluate)
    test = split.masks(table, folder.roles, by)[1]
    if own.leaves_out:
        test &= ~own.leaves_out(table, by)
    rows = table.filter(pa.array(test))
    champion, challenger = (
        evaluate.measurable(folder, evaluate.score(folder, trained / name, rows), [0, 1], settings.evaluate)
        for name in TREES
    )
    metric = own.known(folder.task)[settings.gate.metric]
    how: dict[str, Any] = {"samples": settings.gate.samples, "confidence": settings.gate.confidence}
    by_customer = bootstrap.difference(champion, challenger, metric, **how)
    before, after = (replace(side, units=None) for side in (champion, challenger))
    by_row = bootstrap.difference(before, after, metric, **how)
    edges = [(of.low, of.high) for of in (by_customer, by_row)]
    return int(champion.labels.sum()), metric.of(challenger) - metric.of(champion), *edges


if __name__ == "__main__":
    main()
