"""What `make demo` and the tests play: sentences of four parts, by a seeded draw.

Each part has groups of words that mean much the same. How alike two sentences are, from 0 to 5, is the
share of parts in which their words are of one group. Production drifts when they come as stories, and
no longer as captions.
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
CALM, DRIFTED = 1_500, 3_000  # pairs of production

FIRST = {
    "train.vocabulary": 4000,
    "train.dimensions": 10,
    "gate.floors": {"spearman": 0.6},
    "gate.tolerance": 0.01,
    "canary.max_score_psi": 20.0,  # cosines are lower with more dimensions
    "monitor.min_rows": 200,
}
BETTER = {"train.dimensions": 64}
WORSE = {"train.dimensions": 3}


def sample(folder: Path) -> list[Path]:
    """Write a file a part, as the publisher's: no header, and two sentences and their label a line."""
    return _written(folder, 1)


def bad(_: pa.Table, folder: Path) -> list[Path]:
    """Labels from 0 to 100, which validation stops."""
    return _written(folder, 20)


def production(*_: object) -> tuple[pa.Table, pa.Table]:
    """Other pairs of captions, and then of stories."""
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
    """Rows as a team's store has them, two a pair, without a part."""
    rows = [
        {"id": f"{name}-{number}-{place}", "pair": f"{name}-{number}", "text": text, "alike": alike}
        for number, (*texts, alike) in enumerate(islice(pairs, count))
        for place, text in enumerate(texts, 1)
    ]
    return pa.Table.from_pylist(rows)


def _pairs(rng: np.random.Generator, form: str) -> Iterator[tuple[str, str, float]]:
    """Pairs of sentences, none of which comes twice, and how alike they are."""
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
