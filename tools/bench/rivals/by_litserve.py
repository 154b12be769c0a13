"""A server for bench_serving.py: LitServe as its documentation shows it, with a worker that scores."""

import argparse
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
        return self.model.many(rows) if isinstance(rows[0], list) else self.model.one(rows, asked.get("id"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    server = litserve.LitServer(Scorer(), accelerator="cpu", workers_per_device=1)
    server.run(**vars(parser.parse_args()), log_level="warning", generate_client_file=False)
