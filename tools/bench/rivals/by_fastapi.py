"""A server for bench_serving.py: FastAPI and pydantic under uvicorn.

It scores in the event loop, which is faster than FastAPI's thread pool.
"""

from typing import Annotated

from fastapi import FastAPI
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


class Score(BaseModel):
    """The answer to a request with one row."""

    model_version: str
    score: float
    class_: Annotated[int, Field(alias="class")]
    id: int | str | None = None


class Scores(BaseModel):
    """The answer to a request with many rows."""

    model_version: str
    score: list[float]
    class_: Annotated[list[int], Field(alias="class")]


@app.post("/predict")
async def predict(asked: One) -> Score:
    """Score the row of a request."""
    return Score(**model.one(asked.features, asked.id))


@app.post("/many")
async def many(asked: Many) -> Scores:
    """Score all rows of a request."""
    return Scores(**model.many(asked.features))
