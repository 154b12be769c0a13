"""A model as it lies in the bento: `release.json` and `model/` with its meta.json."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

# (n, f) float32 -> scores: (n, classes) for a multiclass model, (n,) for any other. Thread-safe.
Scorer = Callable[[NDArray[np.float32]], NDArray[Any]]


class Release(msgspec.Struct, frozen=True):
    """release.json: which model this is, and the release key that names it everywhere."""

    model: str  # `churn-eu`
    key: str
    files: dict[str, str] = {}  # of model/, by name: the SHA-256 that it was packed with
    p99_ms: float | None = None  # what the team promises of 99 answers in 100

    def check(self, folder: Path) -> None:
        """ValueError where a file of `folder` is not what was packed, OSError where it is missing.

        XGBoost asks for any amount of memory for a file that was cut off: it is not shown one.
        """
        for name, packed in self.files.items():
            if sha256((folder / name).read_bytes()).hexdigest() != packed:
                raise ValueError(f"{folder / name} is not the file that was packed: {packed}")


class Meta(msgspec.Struct, frozen=True):
    """meta.json, as the train stage wrote it (keys that serving does not need are ignored)."""

    task: Literal["binary", "multiclass", "regression"]
    features: tuple[str, ...]
    classes: tuple[int, ...]  # none of a regression
    threshold: float | None  # of a binary model
    example: tuple[float, ...]  # one row
    score_edges: tuple[float, ...] = ()  # of a regression: upper bounds of a histogram of its predictions


@dataclass(frozen=True)
class Model:
    """A model that is loaded and has scored its own example."""

    release: Release
    meta: Meta
    scorer: Scorer

    @classmethod
    def load(cls, folder: Path, load: Callable[[Path], Scorer]) -> "Model":
        """Load from a bento's source folder; ValueError when the model can't score its own example."""
        release = msgspec.json.decode((folder / "release.json").read_bytes(), type=Release)
        release.check(folder / "model")
        meta = msgspec.json.decode((folder / "model" / "meta.json").read_bytes(), type=Meta)
        model = cls(release, meta, load(folder / "model"))
        model.score(np.asarray([meta.example], dtype=np.float32))
        return model

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores of (n, f) rows: (n,) or (n, classes); ValueError when they are not that, or not finite."""
        scores = np.asarray(self.scorer(rows), dtype=np.float64)
        several = self.meta.task == "multiclass"
        shape = (len(rows), len(self.meta.classes)) if several else (len(rows),)
        if scores.shape != shape or not np.isfinite(scores).all():
            raise ValueError(f"the scorer gave {scores.shape} for {rows.shape} rows; finite {shape} wanted")
        return scores

    def best(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """The place of each row's class in `labels`: by threshold of two, the likeliest of more."""
        if self.meta.task == "multiclass":
            return np.asarray(scores.argmax(axis=1))
        if self.meta.threshold is None:
            return np.zeros(len(scores), dtype=np.intp)
        chosen: NDArray[np.intp] = (scores >= self.meta.threshold).astype(np.intp)
        return chosen

    @property
    def labels(self) -> tuple[int | msgspec.UnsetType, ...]:
        """What an answer says by the place of its class; a regression's says nothing."""
        return self.meta.classes or (msgspec.UNSET,)
