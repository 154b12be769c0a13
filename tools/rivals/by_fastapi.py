"""FastAPI and pydantic under uvicorn (uvloop, httptools), in the event loop: quicker than its threads."""

from typing import Annotated

from fastapi import FastAPI, Response
from prometheus_client import generate_latest
from pydantic import BaseModel, Field, FiniteFloat
from scored import Model

Row = Annotated[list[FiniteFloat], Field(min_length=1)]

model = Model()
app = FastAPI()


class One(BaseModel):
    """One row."""

    features: Row
    id: int | str | None = None


class Many(BaseModel):
    """Many rows."""

    features: list[Row]
    id: list[int | str | None] | None = None


class Score(BaseModel):
    """The answer to one row."""

    model_version: str
    score: float
    class_: Annotated[int, Field(serialization_alias="class")]
    id: int | str | None = None


class Scores(BaseModel):
    """The answer to many."""

    model_version: str
    score: list[float]
    class_: Annotated[list[int], Field(serialization_alias="class")]


@app.post("/predict")
async def predict(asked: One) -> Score:
    """Score one row."""
    scores, classes = model.predict([asked.features], [asked.id])
    return Score(model_version=model.release.key, score=scores[0], class_=classes[0], id=asked.id)


@app.post("/many")
async def many(asked: Many) -> Scores:
    """Score many."""
    scores, classes = model.predict(asked.features, asked.id)
    return Scores(model_version=model.release.key, score=scores, class_=classes)


@app.get("/readyz")
async def ready() -> Response:
    """Whether it is."""
    return Response("\n")


@app.get("/metrics")
async def metrics() -> Response:
    """Prometheus' text."""
    return Response(generate_latest())
