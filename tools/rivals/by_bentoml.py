"""BentoML as its documentation shows it: a class with `@bentoml.api`, no access log."""

from typing import Any

import bentoml
from scored import Model


@bentoml.service(
    workers=1,
    traffic={"timeout": 10},
    logging={"access": {"enabled": False}},
)
class Stock:
    """Scores rows."""

    def __init__(self) -> None:
        self.model = Model()

    @bentoml.api
    def predict(self, features: list[float], id: int | str | None = None) -> dict[str, Any]:  # noqa: A002
        """Score one row."""
        scores, classes = self.model.predict([features], [id])
        return {
            "model_version": self.model.release.key,
            "score": scores[0],
            "class": classes[0],
            "id": id,
        }

    @bentoml.api
    def many(self, features: list[list[float]]) -> dict[str, Any]:
        """Score many."""
        scores, classes = self.model.predict(features)
        return {"model_version": self.model.release.key, "score": scores, "class": classes}
