"""Scores rows with XGBoost's trees, without pandas or scikit-learn: up to FEW rows in NumPy, more in XGBoost.

A call of XGBoost 3.2 takes hundreds of microseconds whatever the number of rows (docs/performance.md). In
NumPy all trees go down one level at a time together. Leaves are added in XGBoost's order in 32 bits, so the
sums equal XGBoost's bit by bit. Rows must be finite, which the module `rows` ensures, because missing values
are not supported.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime import settings
from loop.runtime.model import Scorer

FEW = 48  # maximum rows for which NumPy is faster than XGBoost (tools/bench/bench_serving.py)
# Maximum number of nodes in all trees, each filled to the depth of the deepest. Larger forests are left to
# XGBoost.
NODES = 1 << 20

Floats = NDArray[np.float32]
Ints = NDArray[np.intp]


def load(folder: Path) -> Scorer:
    """Return the scorer of `folder`/model.ubj, which uses SCORER_DEVICE for more than FEW rows.

    Raises ValueError if that is a GPU and XGBoost finds none, because XGBoost itself would use the CPU then.
    """
    import xgboost

    found = settings.read()
    device = found.scorer_device
    booster = xgboost.Booster({"nthread": found.scorer_threads, "device": device})
    booster.load_model(folder / "model.ubj")
    used = json.loads(booster.save_config())["learner"]["generic_param"]["device"]
    if not used.startswith(device):
        raise ValueError(f"SCORER_DEVICE is {device}, but XGBoost computes on {used}")

    def many(rows: Floats) -> NDArray[Any]:
        return np.asarray(booster.inplace_predict(rows, validate_features=False))

    trees = forest(bytes(booster.save_raw("json")))
    if not trees:
        return many
    return lambda rows: trees(rows) if len(rows) <= FEW else many(rows)


@dataclass(frozen=True)
class Forest:
    """Trees filled to the same depth, in flat arrays: 2**depth - 1 splits and 2**depth leaves per tree."""

    depth: int
    features: Ints
    thresholds: Floats
    leaves: Floats
    roots: Ints  # index of each tree's first split
    base: np.float32

    def __call__(self, rows: Floats) -> Floats:
        """Return the probabilities (n,) of class 1 for rows (n, features), which must be finite."""
        count, width = rows.shape
        values, row = rows.ravel(), np.arange(0, count * width, width)[:, None]
        at = np.broadcast_to(self.roots, (count, len(self.roots)))
        down = 1 - self.roots  # split i of a tree has the children 2 i + 1 and 2 i + 2
        for _ in range(self.depth):
            at = 2 * at + down + (values[row + self.features[at]] >= self.thresholds[at])
        # Convert indexes of nodes below the last splits to indexes of leaves; a tree has one more leaf than
        # splits.
        leaves = self.leaves[at + np.arange(len(self.roots)) + 1 - (1 << self.depth)]
        margins = np.empty((count, len(self.roots) + 1), np.float32)
        margins[:, 0], margins[:, 1:] = self.base, leaves
        total = np.add.accumulate(margins, axis=1, out=margins)[:, -1]
        one = np.float32(1)
        return np.asarray(one / (one + np.exp(-total)), np.float32)


def forest(model: bytes) -> Forest | None:
    """Return the forest of a booster that was saved as JSON, or None if only XGBoost can score it."""
    learner = msgspec.json.decode(model)["learner"]
    booster = learner["gradient_booster"]
    if booster["name"] != "gbtree" or learner["objective"]["name"] != "binary:logistic":
        return None
    trees = booster["model"]["trees"]
    if not trees or any(any(tree["split_type"]) for tree in trees):  # split_type 1 means a categorical split
        return None
    base = float(learner["learner_model_param"]["base_score"].strip("[]"))
    return _filled(trees, np.float32(-np.log(np.float32(1 / base - 1))))


def _filled(trees: list[dict[str, Any]], base: np.float32) -> Forest | None:
    """Fill each tree to the depth of the deepest, or return None if that takes more than NODES nodes.

    A leaf on a higher level becomes a split whose children are both the leaf again.
    """

    def joined(key: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.array(tree[key], dtype) for tree in trees])

    sizes = [len(tree["left_children"]) for tree in trees]
    first = np.cumsum([0, *sizes[:-1]])
    left, right = (
        joined(key, np.intp) + np.repeat(first, sizes) for key in ("left_children", "right_children")
    )
    leaf, values = joined("left_children", np.intp) == -1, joined("split_conditions", np.float32)
    left[leaf] = right[leaf] = np.flatnonzero(leaf)
    indices, thresholds = np.where(leaf, 0, joined("split_indices", np.intp)), np.where(leaf, np.inf, values)
    level, splits = first[:, None], [np.empty((len(trees), 0), np.intp)]  # (trees, nodes of the level)
    while not leaf[level].all():
        if 2 * level.size > NODES:
            return None
        splits.append(level)
        level = np.stack([left[level], right[level]], axis=2).reshape(len(trees), -1)
    nodes = np.concatenate(splits, axis=1)
    roots = np.arange(len(trees)) * nodes.shape[1]
    features, limits = indices[nodes].ravel(), thresholds[nodes].ravel().astype(np.float32)
    return Forest(len(splits) - 1, features, limits, values[level].ravel(), roots, base)
