"""A server for bench_serving.py: BentoML as its documentation shows it, without an access log."""

from typing import Any

import bentoml
from scored import Model


@bentoml.service(workers=1, traffic={"timeout": 10}, logging={"access": {"enabled": False}})
class Stock:
    """Scores rows, one or many in a request."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    def predict(self, features: list[float], id: int | str | None = None) -> dict[str, Any]:  # noqa: A002
        """Score the row of a request."""
        return self.model.one(features, id)

    @bentoml.api
    def many(self, features: list[list[float]]) -> dict[str, Any]:
        """Score all rows of a request."""
        return self.model.many(features)
