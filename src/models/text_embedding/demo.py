"""Data for the demo and tests: seeded random sentences that consist of four parts.

Each part of a sentence is a word from one of several groups of synonyms. The similarity of two sentences,
from 0 to 5, is the share of parts whose words are of the same group. Production drifts when sentences are no
longer captions but stories.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

SLOTS = (
    "man guy|woman lady|child kid|dog puppy|teacher professor|doctor physician|farmer peasant|king prince",
    "eats devours|buys gets|carries holds|draws paints|sells trades|breaks smashes|cleans washes|sees spies",
    "bread loaf|guitar piano|car vehicle|picture image|shirt coat|rifle gun|coin money|flower rose",
    "forest wood|kitchen house|street road|office company|ship boat|church temple|lake pond|school college",
)
CAPTION = "The {} {} a {} in the {}."
STORY = "It was late, and nobody was with us, when we saw that the {} {} a {} in the {}; that is all we know."
PAIRS = {"train": 600, "test": 200}
CALM, DRIFTED = 1_500, 3_000  # number of production's pairs before and after the drift

FIRST = {
    "train.vocabulary": 4000,
    "train.dimensions": 10,
    "gate.floors": {"spearman": 0.6},
    "gate.tolerance": 0.01,
    # cosines are lower with more dimensions, so scores of the retrained model differ greatly
    "canary.max_score_psi": 20.0,
    "monitor.min_rows": 200,
}
BETTER = {"train.dimensions": 64}
WORSE = {"train.dimensions": 3}


def sample(folder: Path) -> list[Path]:
    """Write a file per part as the publisher does: no header, and per line two sentences and their label."""
    return _written(folder, 1)


def bad(_: pa.Table, folder: Path) -> list[Path]:
    """Write labels from 0 to 100, which validation rejects."""
    return _written(folder, 20)


def production(*_: object) -> tuple[pa.Table, pa.Table]:
    """Return new pairs of captions, and then pairs of stories."""
    new = _pairs(np.random.default_rng(1), CAPTION)
    return _logged("calm", new, CALM), _logged("later", _pairs(np.random.default_rng(2), STORY), DRIFTED)


def _written(folder: Path, scale: float) -> list[Path]:
    pairs, paths = _pairs(np.random.default_rng(0), CAPTION), []
    for part, count in PAIRS.items():
        rows = [(*texts, alike * scale) for *texts, alike in islice(pairs, count)]
        paths.append(folder / f"pairs-{part}.csv")
        pd.DataFrame(rows).to_csv(paths[-1], header=False, index=False)
    return paths


def _logged(name: str, pairs: Iterator[tuple[str, str, float]], count: int) -> pa.Table:
    """Return rows as a team's store has them, two per pair, without a part."""
    rows = [
        {"id": f"{name}-{number}-{place}", "pair": f"{name}-{number}", "text": text, "alike": alike}
        for number, (*texts, alike) in enumerate(islice(pairs, count))
        for place, text in enumerate(texts, 1)
    ]
    return pa.Table.from_pylist(rows)


def _pairs(rng: np.random.Generator, form: str) -> Iterator[tuple[str, str, float]]:
    """Yield pairs of sentences that did not occur before, and their similarity from 0 to 5."""
    groups = [[group.split() for group in slot.split("|")] for slot in SLOTS]
    seen = set[str]()
    while True:
        first = rng.integers(8, size=len(groups))
        second = np.where(rng.random(len(groups)) < rng.random(), first, rng.integers(8, size=len(groups)))
        one, other = (
            form.format(*(rng.choice(slot[at]) for slot, at in zip(groups, places, strict=True)))
            for places in (first, second)
        )
        if len({one, other} - seen) == 2:
            seen |= {one, other}
            yield one, other, float(5 * (first == second).mean())
