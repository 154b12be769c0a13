"""A model as it lies in the bento: `release.json` and `model/` with its meta.json."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime.columns import Columns, Input, size
from loop.runtime.vectors import marks

# Rows -> scores: (n, classes) for a multiclass model, (n, d) for an embedding, (n,) for any other.
# Thread-safe. Rows are (n, f) float32 where every input is a number; otherwise columns, as the module
# `columns` has them. It may have two methods of rows and their scores: `profile`, named numbers that the log
# keeps in place of the features, and `answer`, named values that an answer has beside the score; n of each.
Values = NDArray[np.float32] | Columns
Scorer = Callable[[Any], NDArray[Any]]
Label = int | str | bool
ANSWERED = ("model_version", "score", "class", "id", "embedding")  # what an answer may have anyway


class Release(msgspec.Struct, frozen=True):
    """release.json: which model this is, and the release key that names it everywhere."""

    model: str  # `churn-eu`
    key: str
    files: dict[str, str] = {}  # of model/, by name: the SHA-256 that it was packed with
    engine: str = ""  # the version of the engine that packed it
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

    task: Literal["binary", "multiclass", "regression", "ranking", "embedding"]
    features: tuple[str, ...]  # names, in order
    inputs: tuple[Input, ...]  # one of all features where they are numbers, otherwise one a feature
    classes: tuple[Label, ...]  # none of a regression
    threshold: float | None  # of a binary model
    example: tuple[float | None, ...] | dict[str, Any]  # one row: numbers, or JSON's values by name
    missing: frozenset[str] = frozenset()  # features that a request may leave out
    categories: dict[str, tuple[str, ...]] = {}  # of a text feature: the values that the log tells apart
    score_edges: tuple[float, ...] = ()  # without classes: upper bounds of a histogram of the predictions
    centre: tuple[float, ...] = ()  # of an embedding: the direction of its training rows' vectors

    @property
    def matrix(self) -> bool:
        """Whether rows are numbers alone, in one array."""
        return self.inputs[0].datatype == "FP32"

    @property
    def width(self) -> int | None:
        """How many numbers a row's score has: classes, or a vector's; None where it is one number."""
        if self.task == "multiclass":
            return len(self.classes)
        return len(self.centre) if self.task == "embedding" else None


@dataclass(frozen=True)
class Model:
    """A model that is loaded and has scored its own example."""

    release: Release
    meta: Meta
    scorer: Scorer

    @classmethod
    def load(cls, folder: Path, load: Callable[[Path], Scorer]) -> "Model":
        """Load from a bento's source folder; ValueError when the model can't answer for its own example."""
        release = msgspec.json.decode((folder / "release.json").read_bytes(), type=Release)
        release.check(folder / "model")
        meta = msgspec.json.decode((folder / "model" / "meta.json").read_bytes(), type=Meta)
        model = cls(release, meta, load(folder / "model"))
        msgspec.json.encode(model.beside(model.example, model.score(model.example)))
        return model

    @property
    def example(self) -> Values:
        """The one row of meta.json."""
        if isinstance(self.meta.example, dict):
            return {each.name: each.column([self.meta.example[each.name]]) for each in self.meta.inputs}
        return np.asarray([self.meta.example], dtype=np.float32)

    def score(self, rows: Values) -> NDArray[np.float64]:
        """Scores of n rows: (n,) or (n, width); ValueError when they are not that, or not finite."""
        scores, count = np.asarray(self.scorer(rows), dtype=np.float64), size(rows)
        shape = (count, self.meta.width) if self.meta.width else (count,)
        if scores.shape != shape or not np.isfinite(scores).all():
            raise ValueError(f"the scorer gave {scores.shape} for {count} rows; finite {shape} wanted")
        return scores

    def beside(self, rows: Values, scores: NDArray[np.float64]) -> dict[str, list[Any]]:
        """What each row's answer has beside score and class, by name; ValueError for a name that is taken."""
        answer = getattr(self.scorer, "answer", None)
        found: dict[str, list[Any]] = answer(rows, scores) if answer else {}
        for name, values in found.items():
            if name in ANSWERED or len(values) != len(scores):
                raise ValueError(f"`answer` gave {name} of {len(values)} values for {len(scores)} rows")
        return found

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The names of what an answer has beside score and class."""
        return tuple(self.beside(self.example, self.score(self.example)))

    def marks(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,), the one number of each row that log, metrics, drift and canary judge compare."""
        return marks(scores, self._centre)

    @cached_property
    def _centre(self) -> NDArray[np.float64] | None:
        return np.array(self.meta.centre) if self.meta.centre else None

    def best(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """The place of each row's class in `labels`: by threshold of two, the likeliest of more."""
        if self.meta.task == "multiclass":
            return np.asarray(scores.argmax(axis=1))
        if self.meta.threshold is None:
            return np.zeros(len(scores), dtype=np.intp)
        chosen: NDArray[np.intp] = (scores >= self.meta.threshold).astype(np.intp)
        return chosen

    @property
    def labels(self) -> tuple[Label | msgspec.UnsetType, ...]:
        """What an answer says by the place of its class; nothing where there are none."""
        return self.meta.classes or (msgspec.UNSET,)
