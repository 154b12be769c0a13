"""A shop in production, on disk: its model's folder, rows, log and store; and a GitHub that records calls."""

import json
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from loop.core.git import Change, Git

BEGIN = datetime(2026, 3, 2)  # noqa: DTZ001 — naive UTC, as stored
FEATURES = ["amount", "often", "weekend", "risk"]
PARAMS = """\
models:
  shop:
    ingest: {}
    validate: {}
    split: {kind: random}
    gate: {metric: average_precision}
    register: {experiment: shop}
    monitor: {min_rows: 300, min_labels: 100}
"""
SCHEMA = """\
from loop.core.models import Roles
COLUMNS = {"id": "int64", "at": "timestamp[us]", "amount": "float64", "fraud": "int8"}
ROLES = Roles(id="id", label="fraud", time="at")
TASK = "binary"
"""
EXPECTATIONS = """\
from loop.core.params import Section
from loop.pipeline.validate import Check
class Params(Section): ...
def suite(params, split):
    import great_expectations.expectations as gxe
    between = gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0, max_value=1000)
    return [Check(between, critical=False), Check(gxe.ExpectColumnValuesToNotBeNull(column="fraud"))]
"""
REST = {
    "source": "def simulate(params): ...\nParams = dict\n",
    "expectations": EXPECTATIONS,
    "features": "FEATURES = ()\ndef compute(transactions, params): ...\nParams = dict\n",
    "estimator": "Params = dict\nfit = save = None\n",
    "scorer": "load = None\n",
}


def rows(count: int, seed: int = 0, scale: float = 1.0, begin: datetime = BEGIN) -> pd.DataFrame:
    """Return rows that are spread evenly over a week, as training and production see them."""
    rng = np.random.default_rng(seed)
    at = pd.to_datetime(begin) + pd.to_timedelta(
        np.linspace(0, 7 * 86_400, count, endpoint=False).round(), unit="s"
    )
    risk = np.where(rng.random(count) < 0.03, rng.random(count), 0.0)
    return pd.DataFrame(
        {
            "id": np.arange(count) + seed * 1_000_000,
            "at": at.astype("datetime64[us]"),
            "amount": rng.gamma(2, 25, count) * scale,
            "often": rng.poisson(3, count).astype(float),
            "weekend": (at.dayofweek >= 5).astype(float),
            "risk": risk,
            "score": np.clip(risk + rng.normal(0.05, 0.02, count), 0, 1),
            "fraud": (risk > 0.5).astype(int),
        }
    )


@dataclass
class Production:
    root: Path

    @property
    def log(self) -> Path:
        return self.root / "production" / "log"

    @property
    def store(self) -> Path:
        return self.root / "production" / "store"

    def answer(self, frame: pd.DataFrame, name: str = "host-1.jsonl", version: str = "0123456789ab") -> None:
        """Log predictions for these rows, and write their transactions to the store."""
        self.log.mkdir(parents=True, exist_ok=True)
        (self.store / "transactions").mkdir(parents=True, exist_ok=True)
        with (self.log / name).open("a") as file:
            for row in frame.to_dict("records"):
                line = {
                    "time": datetime.now(UTC).isoformat(),
                    "id": row["id"],
                    "model": "shop",
                    "version": version,
                    "features": [row[name] for name in FEATURES],
                    "score": row["score"],
                    "class": int(row["score"] >= 0.5),
                }
                file.write(json.dumps(line) + "\n")
        frame[["id", "at", "amount"]].to_parquet(self.store / "transactions" / f"{name}.parquet")

    def report(self, frame: pd.DataFrame, after: timedelta, name: str = "labels") -> None:
        """Report each row's label `after` its transaction."""
        (self.store / "labels").mkdir(parents=True, exist_ok=True)
        labels = frame[["id", "fraud"]].assign(reported_at=(frame["at"] + after).astype("datetime64[us]"))
        labels.to_parquet(self.store / "labels" / f"{name}.parquet")


def commit(root: Path, message: str) -> None:
    git = ["git", "-C", str(root), "-c", "user.name=t", "-c", "user.email=t@example.test"]
    subprocess.run([*git, "add", "params.yaml", "dvc.yaml", "src"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", message], check=True)
    subprocess.run([*git, "push", "-q", "origin", "HEAD:main"], check=True)


def retrain(root: Path, why: str, files: tuple[str, ...] = ("dvc.lock", "data/shop/metrics.json")) -> str:
    """Commit a retraining to main as `land` does; each call changes the files again."""
    git = Git(root)
    parent = git.fetch()
    change = Change(
        dict.fromkeys(files, parent), f"shop: retrain\n\nAction: retrain\nModel: shop\nWhy: {why}\n"
    )
    git.push(made := git.commit_on(parent, change), "main")
    git.run("reset", "--soft", made)
    return made


TITLES = {
    "train.yml": "Train {model}: {reason}",
    "promote.yml": "Promote {model}: {environment} {key} from {from}",
    "rollback.yml": "Roll back {model}: {environment} {key}",
}


OURS, FORK = {"full_name": "team/shop"}, {"full_name": "mallory/shop"}


@dataclass
class FakeGitHub:
    """Records dispatches and lists them as runs, like GitHub."""

    url: str = ""
    dispatched: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    runs: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=lambda: dict(TITLES))
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers to the next calls
    nonsense: list[bytes] = field(default_factory=list)  # bodies that the next calls get, with status 200
    calls: list[str] = field(default_factory=list)
    hidden: int = 0  # number of listings that do not show the newest run yet
    listing: bool = True  # False if no listing shows any run
    on_dispatch: Callable[[], object] = lambda: None  # called before a run is created
    lock: threading.Lock = field(default_factory=threading.Lock)

    def dispatch(self, workflow: str, inputs: dict[str, str]) -> dict[str, object]:
        self.on_dispatch()
        with self.lock:
            self.dispatched.append((workflow, inputs))
            return self.add(workflow, self.titles[workflow].format(**inputs))

    def add(
        self, workflow: str, title: str, age: timedelta = timedelta(), **fields: object
    ) -> dict[str, object]:
        """Add a run of a workflow, dispatched on main unless `fields` say otherwise."""
        run: dict[str, object] = {
            "id": 1 + sum(len(runs) for runs in self.runs.values()),
            "name": None,
            "status": "queued",
            "conclusion": None,
            "created_at": f"{datetime.now(UTC) - age:%Y-%m-%dT%H:%M:%SZ}",
            "display_title": title,
            "event": "workflow_dispatch",
            "head_branch": "main",
            "head_repository": OURS,
            "repository": OURS,
            **fields,
        }
        self.runs.setdefault(workflow, []).insert(0, run)
        return run

    def forge(self, workflow: str, title: str, **fields: object) -> dict[str, object]:
        """Add a run that a fork's pull request started, from a branch that is also called main."""
        fork = {"event": "pull_request", "head_branch": "main", "head_repository": FORK}
        return self.add(workflow, title, **{**fork, **fields})

    def run(self, number: int) -> dict[str, object]:
        return next(run for runs in self.runs.values() for run in runs if run["id"] == number)

    def listed(self, workflow: str, query: dict[str, str]) -> list[dict[str, object]]:
        """Return a page of a workflow's runs, newest first."""
        runs = self.runs.get(workflow, []) if self.listing else []
        if self.hidden:
            self.hidden, runs = self.hidden - 1, runs[1:]
        asked = {"event": query.get("event"), "head_branch": query.get("branch")}
        found = [run for run in runs if all(value in (None, run[name]) for name, value in asked.items())]
        size, page = int(query.get("per_page", 30)), int(query.get("page", 1))
        return found[(page - 1) * size : page * size]

    def answer(
        self, method: str, path: str, query: dict[str, str], body: dict[str, Any]
    ) -> tuple[int, dict[str, str], object]:
        """Return status, headers and JSON for one call."""
        self.calls.append(f"{method} {path}")
        if self.refusals:
            return *self.refusals.pop(0), {"message": "refused"}
        if self.nonsense:
            return 200, {}, self.nonsense.pop(0)
        status, said = 200, None
        match [method, *path.strip("/").split("/")[3:]]:
            case ["GET", "actions", "workflows", workflow, "runs"]:
                said = {"workflow_runs": self.listed(workflow, query)}
            case ["GET", "actions", "runs", number]:
                said = self.run(int(number))
            case ["POST", "actions", "runs", number, "cancel"]:
                self.run(int(number)).update(status="completed", conclusion="cancelled")
                status, said = 202, {}
            case ["POST", "actions", "workflows", workflow, "dispatches"]:
                status, said = self.asked(workflow, body)
            case _:
                status, said = 404, {"message": "Not Found"}
        return status, {}, said

    def asked(self, workflow: str, body: dict[str, Any]) -> tuple[int, object]:
        """Return status and JSON for a dispatch."""
        run = self.dispatch(workflow, body["inputs"])
        page = f"https://github.test/team/shop/actions/runs/{run['id']}"
        answer = {"workflow_run_id": run["id"], "run_url": page, "html_url": page}
        return (200, answer) if body.get("return_run_details") else (204, None)


@dataclass
class FakeTrack:
    """A server of one release, with the counters that it exposes."""

    url: str = ""
    key: str = ""
    ready: bool = True
    answers: int = 0
    failed: int = 0
    high: int = 0  # answers with a high score
    health: str = ""  # replaces the answer of /health
    drip: float = 0.0  # seconds before each byte
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, **counts: int) -> None:
        """Set several counters at once, so that a scrape sees all changes or none."""
        with self.lock:
            for name, value in counts.items():
                setattr(self, name, value)

    def answer(self, path: str) -> tuple[int, str]:
        match path:
            case "/readyz":
                return (200 if self.ready else 503), ""
            case "/health" if self.health:
                return 200, self.health
            case "/health":
                return 200, json.dumps({"status": "ok", "model_version": self.key})
            case _:
                with self.lock:
                    return 200, exposition(self.key, self.answers, self.failed, self.failed, high=self.high)


def exposition(
    version: str, answers: int, failed: int, server_errors: int, *, caller: int = 0, high: int = 0
) -> str:
    """Return a server's metrics after these numbers of answers, model failures, 5xx and callers' errors."""
    registry = CollectorRegistry()
    of = ("model", "version")
    latency = Histogram("model_prediction_latency_seconds", "", of, buckets=(0.01, 0.1), registry=registry)
    scores = Histogram("model_prediction_score", "", of, buckets=(0.5, 1), registry=registry)
    failures = Counter("model_prediction_failed", "", (*of, "reason"), registry=registry)
    http = Counter(
        "bentoml_service_request",
        "",
        ("endpoint", "http_response_code", "service_version"),
        registry=registry,
    )
    for histogram in (latency, scores):
        histogram.labels("shop", version)  # exists before the first answer, as in a service
    for number in range(answers):
        latency.labels("shop", version).observe(0.05)
        scores.labels("shop", version).observe(0.7 if number < high else 0.2)
    failures.labels("shop", version, "model").inc(failed)
    failures.labels("shop", version, "json").inc(caller)
    http.labels("/predict", "200", version).inc(answers)
    http.labels("/predict", "400", version).inc(caller)
    http.labels("/predict", "500", version).inc(server_errors)
    http.labels("/readyz", "503", version).inc(50)
    return generate_latest(registry).decode()
