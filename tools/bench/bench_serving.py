"""`make bench-serving`: compares the bento's server with servers that a team might choose instead.

All servers serve the same model on the same machine and write the same metrics and log. They are measured in
turn, in rounds (A B C A B C …): throughput by wrk, latency by an open loop. The model is the first in
params.yaml, which `./loop repro` and `./loop bento` must have made. docs/performance.md explains the results.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import psutil
import xgboost
from shared import BENCH, ROOT, bars, console, machine, middle, open_loop, report, run, start, wrk

from loop.core import params
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.project import Project
from loop.packaging import process
from loop.packaging.bento import built

RIVALS = BENCH / "rivals"
BIN = Path(sys.executable).parent
PACKAGE = next(iter(params.read(ROOT)))
SERVICE = PACKAGE.title().replace("_", "")  # the service's name in bentos/<package>/service.py
ROWS = 100  # rows in a request with many rows
STEADY = 200  # requests per second of the open loop
PACKAGES = ("bentoml", "fastapi", "uvicorn", "mlflow", "xgboost-cpu", "pydantic")
SAME = 1e-6  # how far a server's score may be from XGBoost's own


@dataclass(frozen=True)
class Server:
    """How to start a server, and the form of its requests and answers."""

    name: str
    command: tuple[str, ...] = ()  # without host and port; an empty one starts the bento as its pod does
    many: str = "/predict"
    one: str = "/predict"
    key: str = "features"  # the key of the rows in a request
    scores: str = "score"  # the key of the scores in an answer
    ready: str = "/readyz"
    npy: bool = False


UVICORN = (f"{BIN}/uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning")
MLFLOW = (f"{BIN}/mlflow", "models", "serve", "--env-manager=local", "--workers=1")
OURS = Server("ours", npy=True)
SERVERS = (
    OURS,
    Server("ours, by `bentoml serve`", (f"{BIN}/bentoml", "serve", f"service:{SERVICE}"), npy=True),
    Server("FastAPI + uvicorn", (*UVICORN, "by_fastapi:app"), many="/many", ready="/openapi.json"),
    Server(
        "BentoML `@bentoml.api`",
        (f"{BIN}/bentoml", "serve", "by_bentoml:Stock", f"--working-dir={RIVALS}"),
        many="/many",
    ),
    Server(
        "mlflow models serve",
        (*MLFLOW, "--model-uri={scratch}/mlflow"),
        one="/invocations",
        many="/invocations",
        key="inputs",
        scores="predictions",
        ready="/ping",
    ),
)


class Bodies:
    """Files with a server's requests: single rows of random features, all of them in JSON, and in .npy."""

    def __init__(self, server: Server, width: int, folder: Path) -> None:
        folder.mkdir()
        rows = np.random.default_rng(1).lognormal(size=(ROWS, width)).round(2)
        self.one, self.many, self.npy = [], [folder / "many"], [folder / "npy"]
        for number, row in enumerate(rows.tolist()):
            ours = {server.key: row, "id": f"tx-{number}"}
            self.one.append(folder / f"{number}.json")
            self.one[-1].write_text(json.dumps(ours if server.key == "features" else {server.key: [row]}))
        self.many[0].write_text(json.dumps({server.key: rows.tolist()}))
        with self.npy[0].open("wb") as file:
            np.save(file, rows.astype(np.float32))


class Running(process.Server):
    """A running server of the bento in the folder `scratch`; ready inside the block."""

    def __init__(self, server: Server, scratch: Path) -> None:
        super().__init__(scratch / "bento", log_dir=scratch / "log")
        self.server, self.ready = server, server.ready
        self._words = [word.format(scratch=scratch) for word in server.command]

    def _command(self, python: Path) -> list[str | Path]:
        return [*self._words] or super()._command(python)

    def _environment(self, python: Path) -> dict[str, str]:
        found = super()._environment(python)
        if not self._words:
            return found
        return found | {
            "PATH": os.pathsep.join((str(BIN), found["PATH"])),  # mlflow looks for uvicorn on PATH
            "PYTHONPATH": f"{self.bento}/src{os.pathsep}{RIVALS}",
            "BENTO": str(self.bento / "src"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def memory(self) -> dict[str, float]:
        """Return the MB of the largest process, and of all processes with shared pages counted once."""
        mine = psutil.Process(self.process.pid)
        memory = [one.memory_full_info() for one in (mine, *mine.children(recursive=True))]
        largest, together = max(one.rss for one in memory), sum(one.pss for one in memory)
        return {"memory of the worker, MB": largest / 1e6, "memory of all processes, MB": together / 1e6}


def check(live: Running, bodies: Bodies) -> None:
    """Check that a server's scores equal XGBoost's own, so that all servers do the same work."""
    booster = xgboost.Booster({"nthread": 1}, model_file=live.bento / "src/model/model.ubj")
    true = booster.inplace_predict(np.load(bodies.npy[0]))
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=live.url, headers=headers, trust_env=False, timeout=30) as client:
        for path, body in ((live.server.one, bodies.one[0]), (live.server.many, bodies.many[0])):
            answer = client.post(path, content=body.read_bytes()).raise_for_status().json()
            given = np.ravel(answer[live.server.scores])
            if np.abs(given - true[: len(given)]).max() > SAME:
                raise LoopError(f"{live.server.name} returns other scores than XGBoost")


def measure(server: Server, bodies: Bodies, scratch: Path, seconds: int) -> dict[str, float]:
    """Start a server and measure it once."""
    loads = [(f"{n} connections", server.one, bodies.one, n) for n in (1, 16, 64)]
    loads.append((f"{ROWS} rows, JSON", server.many, bodies.many, 16))
    if server.npy:
        loads.append((f"{ROWS} rows, .npy", server.many, bodies.npy, 16))
    with Running(server, scratch) as live:
        check(live, bodies)
        wrk(live, server.one, bodies.one, 16, 1)  # warm up
        found = {name: wrk(live, *load, seconds) for name, *load in loads}
        found["open loop"] = open_loop(live.port, server.one, bodies.one, STEADY, 2 * seconds)
        flat = {f"{name}: {key}": value for name, got in found.items() for key, value in got.items()}
        return flat | live.memory() | {"start to ready, s": live.ready_after}


def meanwhile(load: Callable[[], Any], look: Callable[[], float]) -> tuple[Any, list[float]]:
    """Run a load, and look about five times a second; return the load's result and what was seen."""
    with ThreadPoolExecutor(1) as thread:
        loading, seen = thread.submit(load), [look()]
        while not loading.done():
            time.sleep(0.2)
            seen.append(look())
    return loading.result(), seen


def asked_for(bodies: Bodies, scratch: Path) -> dict[str, Any]:
    """Measure our server at the rates that its users asked for, while it is scraped, and overloaded.

    The overload is three times the number of 100-row requests that the server can answer.
    """
    with Running(OURS, scratch) as live, httpx.Client(base_url=live.url, trust_env=False) as client:
        load = partial(open_loop, live.port, "/predict")

        def scrape() -> float:
            return client.get("/metrics").raise_for_status().elapsed.total_seconds() * 1e3

        wrk(live, "/predict", bodies.one, 16, 1)  # warm up
        minute = load(bodies.one, 500, 60)
        sustained, scrapes = meanwhile(lambda: load(bodies.one, 3500, 15), scrape)
        before = load(bodies.one, STEADY, 5)
        flood = round(3 * wrk(live, "/predict", bodies.many, 16, 3)["requests/s"])
        flooded, memory = meanwhile(
            lambda: load(bodies.many, flood, 30, connections=1000), lambda: max(live.memory().values())
        )
        return {
            "for 60 s": minute,
            "for 15 s": {**sustained, "scrapes, ms": {"median": np.median(scrapes), "worst": max(scrapes)}},
            "before the flood": before,
            "flood for 30 s": {**flooded, "MB": {"before": memory[0], "most": max(memory)}},
            "in the 5 s after": load(bodies.one, STEADY, 5),
        }


def main() -> None:
    """Measure every server, and report the results."""
    parser = argparse.ArgumentParser("bench-serving", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each measurement by wrk (3)")
    parser.add_argument("--rounds", type=int, default=2, help="number of repetitions; the median counts (2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as made:
        scratch, facts = Path(made), machine() | {name: version(name) for name in PACKAGES}
        bento = built(Project(ROOT, PACKAGE)).path
        if not (bento / "src" / "model" / "model.ubj").is_file():
            said = f"{PACKAGE}, the first model of params.yaml, has no model.ubj, so it is not of XGBoost"
            raise LoopError(said, fix="list a model of XGBoost first; `make bench-models` measures any model")
        (scratch / "bento").symlink_to(bento)
        env = {**os.environ, "PYTHONPATH": f"{bento}/src", "BENTO": f"{bento}/src"}
        run(sys.executable, RIVALS / "by_mlflow.py", scratch / "mlflow", env=env)
        width = len(read_json(bento / "src" / "model" / "meta.json")["features"])
        asked = {server: Bodies(server, width, scratch / str(at)) for at, server in enumerate(SERVERS)}
        rounds: dict[Server, list[dict[str, float]]] = {server: [] for server in SERVERS}
        for _ in range(options.rounds):
            for server, bodies in asked.items():
                console.print(f"[dim]{server.name}")
                rounds[server].append(measure(server, bodies, scratch, options.seconds))
        ours = asked_for(asked[OURS], scratch)
    console.print_json(json.dumps(ours))
    table = pd.DataFrame({server.name: middle(figures) for server, figures in rounds.items()})
    everything = {"machine": facts, "servers": table.to_dict(), "ours": ours}
    panels = {name: table.loc[name] for name in ("16 connections: requests/s", "open loop: p99, ms")}
    report("serving", table, everything, bars([*table], panels))


if __name__ == "__main__":
    start("bench-serving", main)
