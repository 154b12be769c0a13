"""Loads a model from an image: `release.json`, and `model/` with its meta.json."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime import columns, vectors
from loop.runtime.columns import Columns, Input, size

# A scorer converts rows to scores: (n, classes) for a multiclass model, (n, d) for an embedding, (n,) for
# other models. It must be thread-safe. Rows are (n, features) float32 if every input is a number, otherwise
# columns as the module `columns` defines them. A scorer may have two methods that take rows and their scores:
# `profile` returns named numbers that the prediction log stores instead of the features, and `answer` returns
# named values that a response contains beside the score. Both return n values per name.
Values = NDArray[np.float32] | Columns
Scorer = Callable[[Any], NDArray[Any]]
Label = int | str | bool
# names that a response already uses, so a scorer's `answer` may not return them
ANSWERED = ("model_version", "score", "class", "id", "embedding")


class Release(msgspec.Struct, frozen=True):
    """Content of release.json: the model's name, and the release key that identifies this version."""

    model: str  # the model's name, such as `churn-eu`
    key: str
    files: dict[str, str] = {}  # {file in model/: its SHA-256 when the image was built}
    engine: str = ""  # the version of the engine that built the image
    p99_ms: float | None = None  # `sla.p99_ms`, the latency that 99 % of requests must not exceed


class Meta(msgspec.Struct, frozen=True):
    """Content of meta.json, which the train stage writes. Keys that the server does not need are ignored."""

    task: Literal["binary", "multiclass", "regression", "ranking", "embedding"]
    features: tuple[str, ...]  # names of the features, in order
    inputs: tuple[Input, ...]  # one input for all features if they are all numbers, otherwise one per feature
    classes: tuple[Label, ...]  # the labels in order; empty for a regression
    threshold: float | None  # a binary model answers class 1 from this score on; None for other models
    # one row of features: a list of numbers, or JSON values by name
    example: tuple[float | None, ...] | dict[str, Any]
    missing: frozenset[str] = frozenset()  # features that a request may leave out
    # {text feature: the categories that the prediction log distinguishes}
    categories: dict[str, tuple[str, ...]] = {}
    # for models without classes: upper bounds of the histogram of predicted values
    score_edges: tuple[float, ...] = ()
    # for an embedding: the direction of the mean of its training rows' vectors
    centre: tuple[float, ...] = ()

    @property
    def matrix(self) -> bool:
        """Whether all features are numbers, so that rows are one array."""
        return self.inputs[0].datatype == "FP32"

    @property
    def width(self) -> int | None:
        """Number of values in a row's score: of classes, or of a vector's numbers; None for one number."""
        if self.task == "multiclass":
            return len(self.classes)
        return len(self.centre) if self.task == "embedding" else None


@dataclass(frozen=True)
class Model:
    """A loaded model that was able to score the example row in its meta.json."""

    release: Release
    meta: Meta
    scorer: Scorer
    named: tuple[str, ...] = ()  # names of the additional values that a response contains

    @classmethod
    def load(cls, folder: Path, load: Callable[[Path], Scorer]) -> "Model":
        """Load a model and score its example. Raises ValueError or OSError if a file or a score is wrong."""
        release = msgspec.json.decode((folder / "release.json").read_bytes(), type=Release)
        # before XGBoost loads its file, because it allocates unlimited memory for a truncated one
        for name, packed in release.files.items():
            if sha256((path := folder / "model" / name).read_bytes()).hexdigest() != packed:
                raise ValueError(f"{path} is not the file that was packed: its SHA-256 is not {packed}")
        meta = msgspec.json.decode((folder / "model" / "meta.json").read_bytes(), type=Meta)
        model = cls(release, meta, load(folder / "model"))
        scores = model.score(model.example)
        msgspec.json.encode(beside := model.beside(model.example, scores))
        if meta.task == "embedding":
            vectors.json(scores.astype(np.float32))
        return replace(model, named=tuple(beside))

    @property
    def example(self) -> Values:
        """The example row of meta.json, as the scorer takes it."""
        if isinstance(self.meta.example, dict):
            return columns.row(self.meta.inputs, self.meta.example)
        return np.asarray([self.meta.example], dtype=np.float32)

    def score(self, rows: Values) -> NDArray[np.float64]:
        """Return n rows' scores, (n,) or (n, width). Raises ValueError for another shape, NaN or infinity."""
        scores, count = np.asarray(self.scorer(rows), dtype=np.float64), size(rows)
        shape = (count, self.meta.width) if self.meta.width else (count,)
        if scores.shape != shape or not np.isfinite(scores).all():
            wrong = f"{scores.shape} for {count} rows, should be {shape} and finite"
            raise ValueError(f"the scorer returned {wrong}")
        return scores

    def beside(self, rows: Values, scores: NDArray[np.float64]) -> dict[str, list[Any]]:
        """Return each row's additional values, {name: n values}. Raises ValueError if they are wrong."""
        answer = getattr(self.scorer, "answer", None)
        found: dict[str, list[Any]] = answer(rows, scores) if answer else {}
        for name, values in found.items():
            if name in ANSWERED or len(values) != len(scores):
                raise ValueError(f"`answer` returned {len(values)} values of {name} for {len(scores)} rows")
        return found

    def marks(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return one number per row, (n,), which prediction log, metrics, drift and canary judge compare."""
        return vectors.marks(scores, self._centre)

    @cached_property
    def _centre(self) -> NDArray[np.float64] | None:
        return np.array(self.meta.centre) if self.meta.centre else None

    def best(self, scores: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return each row's index in `labels`, (n,): by the threshold, or the highest of several scores."""
        if self.meta.task == "multiclass":
            return np.asarray(scores.argmax(axis=1))
        if self.meta.threshold is None:
            return np.zeros(len(scores), dtype=np.intp)
        return np.asarray(scores >= self.meta.threshold, dtype=np.intp)

    @property
    def labels(self) -> tuple[Label | msgspec.UnsetType, ...]:
        """The classes that a response can contain, in order; (UNSET,) if the model has no classes."""
        return self.meta.classes or (msgspec.UNSET,)
