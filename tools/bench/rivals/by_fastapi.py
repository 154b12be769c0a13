"""A server for bench_serving.py: FastAPI and pydantic under uvicorn.

It scores in the event loop, which is faster than FastAPI's thread pool.
"""

from typing import Annotated, Any

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


@app.post("/predict")
async def predict(asked: One) -> dict[str, Any]:
    """Score the row of a request."""
    return model.one(asked.features, asked.id)


@app.post("/many")
async def many(asked: Many) -> dict[str, Any]:
    """Score all rows of a request."""
    return model.many(asked.features)
