"""A server for bench_serving.py: FastAPI and pydantic under uvicorn.

It scores in the event loop, which is faster than FastAPI's thread pool.
"""

from typing import Annotated

from fastapi import FastAPI, Response
from prometheus_client import generate_latest
from pydantic import BaseModel, Field, FiniteFloat
from scored import Model

Row = Annotated[list[FiniteFloat], Field(min_length=1)]

model = Model()
app = FastAPI()


class One(BaseModel):
    """The body of a request with one row."""

    features: Row
    id: int | str | None = None


class Many(BaseModel):
    """The body of a request with many rows."""

    features: list[Row]
    id: list[int | str | None] | None = None


class Score(BaseModel):
    """The answer to a request with one row."""

    model_version: str
    score: float
    class_: Annotated[int, Field(serialization_alias="class")]
    id: int | str | None = None


class Scores(BaseModel):
    """The answer to a request with many rows."""

    model_version: str
    score: list[float]
    class_: Annotated[list[int], Field(serialization_alias="class")]


@app.post("/predict")
async def predict(asked: One) -> Score:
    """Score the row of a request."""
    scores, classes = model.predict([asked.features], [asked.id])
    return Score(model_version=model.release.key, score=scores[0], class_=classes[0], id=asked.id)


@app.post("/many")
async def many(asked: Many) -> Scores:
    """Score all rows of a request."""
    scores, classes = model.predict(asked.features, asked.id)
    return Scores(model_version=model.release.key, score=scores, class_=classes)


@app.get("/readyz")
async def ready() -> Response:
    """Answer the benchmark, which waits until the server is ready."""
    return Response("\n")


@app.get("/metrics")
async def metrics() -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(generate_latest())
