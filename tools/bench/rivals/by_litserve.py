"""A server for bench_serving.py: LitServe as its documentation shows it, with a worker that scores."""

import sys
from typing import Any

import litserve
from scored import Model


class Scorer(litserve.LitAPI):
    """Scores the rows of a request in LitServe's worker process."""

    def setup(self, device: str) -> None:
        self.model = Model()

    def predict(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Score one row or many rows; LitServe passes the request's JSON."""
        rows = asked["features"]
        many = isinstance(rows[0], list)
        scores, classes = self.model.predict(rows if many else [rows], None if many else [asked.get("id")])
        found = {"score": scores, "class": classes} if many else {"score": scores[0], "class": classes[0]}
        return {"model_version": self.model.release.key, **found}


if __name__ == "__main__":
    server = litserve.LitServer(Scorer(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
