"""A small sample for the tests that every model has: sentences of four parts, by a seeded draw.

Each part has groups of words that mean much the same. How alike two sentences are, from 0 to 5, is the
share of parts in which their words are of one group.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

SLOTS = (
    "man guy|woman lady|child kid|dog puppy|teacher professor|doctor physician|farmer peasant|king prince",
    "eats devours|buys gets|carries holds|draws paints|sells trades|breaks smashes|cleans washes|sees spies",
    "bread loaf|guitar piano|car vehicle|picture image|shirt coat|rifle gun|coin money|flower rose",
    "forest wood|kitchen house|street road|office company|ship boat|church temple|lake pond|school college",
)
PAIRS = {"train": 600, "test": 200}
GERMAN = "der die und ein Hund läuft durch den Wald weil es heute nicht regnet aber kalt ist"

ROW = {"text": "A dog carries a loaf in the forest."}
PARAMS: dict[str, object] = {
    "train.vocabulary": 4000,
    "train.dimensions": 64,
    "gate.floors": {"spearman": 0.6},
}


def write(folder: Path) -> list[Path]:
    """A file a part, as the publisher's: no header, and two sentences and their label a line."""
    rng, paths, seen = np.random.default_rng(0), [], set()
    slots = [[group.split() for group in slot.split("|")] for slot in SLOTS]
    for part, pairs in PAIRS.items():
        lines = []
        while len(lines) < pairs:
            first = rng.integers(8, size=len(slots))
            second = np.where(rng.random(len(slots)) < rng.random(), first, rng.integers(8, size=len(slots)))
            texts = [_sentence(rng, slots, groups) for groups in (first, second)]
            if len({*texts} - seen) == len(texts):
                lines.append((*texts, 5 * (first == second).mean()))
                seen.update(texts)
        table = pa.table([*zip(*lines, strict=True)], ["sentence1", "sentence2", "score"])
        paths.append(folder / f"pairs-{part}.csv")
        pa.csv.write_csv(table, paths[-1], pa.csv.WriteOptions(include_header=False))
    return paths


def _sentence(rng: np.random.Generator, slots: list[list[list[str]]], groups: np.ndarray) -> str:
    who, does, what, where = (rng.choice(slot[group]) for slot, group in zip(slots, groups, strict=True))
    return f"The {who} {does} a {what} in the {where}."


def DRIFT(rows: pa.Table) -> pa.Table:  # noqa: N802 - the shared test's name
    """As many words of another language."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(GERMAN.split(), len(text.split()))) for text in rows["text"].to_pylist()]
    return rows.set_column(rows.column_names.index("text"), "text", pa.array(texts))
