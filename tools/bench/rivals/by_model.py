"""The server that `make bench-models` compares with: FastAPI around a bento's scorer, our metrics and log."""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from pydantic import Base64Bytes, create_model

import scorer  # the bento's own module
from loop.runtime import columns
from loop.runtime.log import PredictionLog
from loop.runtime.metrics import SCORE, Metrics
from loop.runtime.model import Model

model = Model.load(Path(scorer.__file__).parent, scorer.load)
meta, release = model.meta, model.release
metrics = Metrics(
    release.model, release.key, meta.classes or ("",), release.p99_ms, meta.score_edges or SCORE
)
log = PredictionLog(Path(os.environ["PREDICTION_LOG_DIR"]), release, metrics.dropped)
app = FastAPI()
key = columns.key(meta.inputs)


def row() -> Any:
    """Return the type of a row in a request: a list of numbers, a single value, or an object by name."""
    if meta.matrix:
        return list[float]
    if key != "features":
        return Base64Bytes if meta.inputs[0].encoded else meta.inputs[0].kind
    fields: dict[str, Any] = {
        each.name: (each.kind | None, None) if each.name in meta.missing else (each.kind, ...)
        for each in meta.inputs
    }
    return create_model("Row", **fields)


Asked = create_model("Asked", **{key: (row(), ...), "id": (int | str | None, None)})  # type: ignore[call-overload]


@app.post("/predict")
async def predict(asked: Asked) -> dict[str, Any]:  # type: ignore[valid-type]
    """Score the row of a request, count it and log it."""
    began, given = time.perf_counter(), getattr(asked, key)
    if meta.matrix:
        rows: Any = np.array([given], np.float32)
    elif key == "features":
        rows = {each.name: each.column([getattr(given, each.name)]) for each in meta.inputs}
    else:
        rows = {key: meta.inputs[0].column([given])}
    scores = model.score(rows)
    best, marks = model.best(scores), model.marks(scores)
    metrics.predicted(marks, best)
    label = model.labels[best[0]]
    log.write([asked.id], profiled(rows, scores), marks.tolist(), [label])  # type: ignore[attr-defined]
    metrics.took(time.perf_counter() - began)
    told = {"embedding" if meta.task == "embedding" else "score": scores[0].tolist()}
    beside = {name: values[0] for name, values in model.beside(rows, scores).items()}
    return {"model_version": release.key, **told, **({"class": label} if meta.classes else {}), **beside}


def profiled(rows: Any, scores: Any) -> Any:
    """Return the row's profile, an array of shape (1, p), which the prediction log stores."""
    if profile := getattr(model.scorer, "profile", None):
        return np.column_stack([np.asarray(each, np.float32) for each in profile(rows, scores).values()])
    if meta.matrix:
        return rows
    return np.column_stack([*columns.numbers(rows, meta.categories).values()]).astype(np.float32)
