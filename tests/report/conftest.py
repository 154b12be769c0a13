"""Fixtures for the tests of `loop report`: a new fork, and the same fork after every command."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from releases import LOCK, MODEL, A, B, built, save, track

from loop.core.git import Git
from loop.core.release_state import State, files
from loop.delivery.canary import rollback
from loop.delivery.commit import Place, land
from loop.delivery.steps import released

CARRIED = ("params.yaml", "dvc.yaml", ".gitignore")


@pytest.fixture
def fork(origin: Path, template: Path) -> Path:
    """Return a clone in which nothing has been trained or released yet."""
    at = origin.parent / "clone"
    written = {name: (template / name).read_text() for name in CARRIED}
    for source in (template / "src" / "models" / MODEL).glob("*.py"):
        written[str(source.relative_to(template))] = source.read_text()
    for environment in ("staging", "production"):
        written |= files(State(), environment, MODEL)
    save(at, written)
    return at


@pytest.fixture
def lived(fork: Path) -> Path:
    """Return the same clone after every command: trained, gated, released, a canary rolled back, drifted."""
    data, build = fork / "data" / MODEL, fork / "build" / MODEL
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.2).astype(np.int8)
    ranked = np.clip(0.3 * labels + rng.random(400) * 0.6, 0, 1)
    ids = np.arange(400)
    tell(data / "metrics.json", {"average_precision": 0.5, "rows": 400, "slices": {"NIGHT": {"q1": PART}}})
    tell(data / "model" / "meta.json", META)
    tell(data / "plots" / "importance.json", [{"feature": "TX_AMOUNT", "rise": 0.5}])
    tell(data / "validation" / "quality.json", QUALITY)
    tell(build / "monitor" / "report.json", DRIFT)
    (build / "monitor" / "report.html").write_text("<p>the drift report")
    built(fork, B)
    scored = {"TRANSACTION_ID": ids, "CUSTOMER_ID": ids // 4, "TX_FRAUD": labels, "score": ranked}
    pq.write_table(pa.table(scored), data / "scores.parquet")
    pq.write_table(pa.table({**scored, "score": ranked[::-1]}), build / "champion.parquet")
    save(fork, {"dvc.lock": LOCK}, "Train")
    _released(Git(fork))
    return fork


def _released(git: Git) -> None:
    """Release once to stable, then roll back the canary of a second release."""
    place = Place(MODEL, "production")
    for key, why in ((A, "the first of all"), (B, "holds against the champion")):
        one = track(key).model_copy(update={"commit": git.head()})
        land(git, "release", place, lambda now, one=one: released(now.state, one, canary=True), why)
    rollback(git, place, "p99 900 ms: <script>", B)


def tell(path: Path, what: object) -> None:
    """Write a record as a command writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(what))


PART = {"rows": 90, "positives": 5, "accuracy": 0.9, "average_precision": 0.41}
META = {
    "name": MODEL,
    "task": "binary",
    "features": ["TX_AMOUNT"],
    "classes": [0, 1],
    "threshold": 0.5,
    "trained": {"from": "2026-01-01T00:00:00", "to": "2026-03-31T00:00:00", "rows": 12345},
}
CHECK = {
    "check": "ExpectColumnValuesToBeBetween",
    "column": "TX_AMOUNT",
    "critical": False,
    "passed": True,
    "share": 1.0,
    "unexpected": 0,
    "found": "",
    "examples": [],
    "expected": {"min_value": 0, "max_value": 5000},
}
QUALITY = {
    "data_quality_score": 0.995,
    "least": 0.985,
    "rows": 5000,
    "checks": 2,
    "failed": [{**CHECK, "column": "TERMINAL_ID", "passed": False, "share": 0.99, "examples": [{"id": 77}]}],
    "passed": [CHECK],
}
DRIFT = {
    "window": {"from": "2026-04-01T00:00:00", "until": "2026-04-08T00:00:00", "covered_days": 7},
    "rows": {"window": 4321},
    "drift": {
        "score": 0.61,
        "threshold": 0.3,
        "features": {"TX_AMOUNT": {"test": "wasserstein", "score": 0.62, "chance": 0.0, "counts": 0.61}},
    },
    "live": {
        "metrics": {"accuracy": 0.9},
        "targets": {"accuracy": 0.93},
        "margins": {"accuracy": -0.03},
        "labelled": 987,
        "unlabelled": 22,
    },
    "verdict": "retrain",
    "reasons": ["drift 0.61 >= 0.3 (TX_AMOUNT)"],
    "alarms": [],
    "retrainings": 1,
    "dispatch": {"dispatched": True, "why": "drift"},
}
