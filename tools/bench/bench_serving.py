"""`make bench-serving`: compares the bento's server with servers that a team might choose instead.

All servers serve the same model on the same machine and write the same metrics and log. They are measured in
turn, in rounds (A B C A B C …): throughput by wrk, latency by an open loop. The model is the first in
params.yaml, which `./loop repro` and `./loop bento` must have made. docs/performance.md explains the results.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import xgboost
from matplotlib.figure import Figure
from shared import BENCH, ROOT, Panel, bars, console, machine, middle, open_loop, report, run, start, wrk

from loop.core import params, paths
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
    listed: bool = False  # whether a single row must be sent as a list of one row
    npy: bool = False
    own: bool = False  # whether it has an environment of its own, by tools/bench/requirements.lock
    packages: bool = False  # whether it also needs the packages of the bento


UVICORN = ("{bin}/uvicorn", "--loop=uvloop", "--http=httptools", "--no-access-log", "--log-level=warning")
MLFLOW = ("{bin}/mlflow", "models", "serve", "--env-manager=local", "--workers=1")
SERVERS = (
    Server("ours", npy=True),
    Server("ours, by `bentoml serve`", ("{bin}/bentoml", "serve", f"service:{SERVICE}"), npy=True),
    Server("FastAPI + uvicorn", (*UVICORN, "by_fastapi:app"), many="/many", ready="/openapi.json"),
    Server(
        "BentoML `@bentoml.api`",
        ("{bin}/bentoml", "serve", "by_bentoml:Stock", f"--working-dir={RIVALS}"),
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
        listed=True,
    ),
    Server("LitServe", ("{bin}/python", f"{RIVALS}/by_litserve.py"), ready="/health", own=True),
)


# The requests


def write_bodies(server: Server, width: int, folder: Path) -> None:
    """Write bodies for a server: a hundred rows of random features as 000.json and so on, many and npy."""
    folder.mkdir()
    rows = np.random.default_rng(1).lognormal(size=(ROWS, width)).round(2).astype(np.float32)
    lists, named = [[round(value, 2) for value in row] for row in rows.tolist()], server.key == "features"
    for number, row in enumerate(lists):
        body = {server.key: [row] if server.listed else row, **({"id": f"tx-{number}"} if named else {})}
        (folder / f"{number:03}.json").write_text(json.dumps(body))
    (folder / "many").write_text(json.dumps({server.key: lists}))
    np.save(file := BytesIO(), rows)
    (folder / "npy").write_bytes(file.getvalue())


# The running server


class Running(process.Server):
    """One of SERVERS, which serves the bento in the folder `scratch`; ready inside the block."""

    def __init__(self, server: Server, scratch: Path) -> None:
        super().__init__(scratch / "bento", log_dir=scratch / "log")
        self.server, self.ready = server, server.ready
        # An environment of its own for LitServe, which the project's lock does not contain
        own = paths.environment(BENCH / "requirements.lock") if server.own else BIN.parent
        self._words = [word.format(scratch=scratch, bin=own / "bin") for word in server.command]

    def _command(self, python: Path) -> list[str | Path]:
        return [*self._words] or super()._command(python)

    def _environment(self, python: Path) -> dict[str, str]:
        found = super()._environment(python)
        if not self._words:
            return found
        packages = python.glob("lib/python*/site-packages") if self.server.packages else ()
        folders = (self.bento / "src", RIVALS, *packages)
        return found | {
            "PATH": os.pathsep.join((str(BIN), found["PATH"])),  # mlflow looks for uvicorn on PATH
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "BENTO": str(self.bento / "src"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }

    def memory(self) -> tuple[float, float]:
        """Return the MB of the largest process, and of all processes with shared pages counted once."""
        mine = psutil.Process(self.process.pid)
        memory = [one.memory_full_info() for one in (mine, *mine.children(recursive=True))]
        return max(one.rss for one in memory) / 1e6, sum(one.pss for one in memory) / 1e6


def check(live: Running, asked: Path, scratch: Path) -> None:
    """Check that a server's scores equal XGBoost's own, so that all servers do the same work."""
    booster = xgboost.Booster({"nthread": 1}, model_file=scratch / "bento/src/model/model.ubj")
    true = booster.inplace_predict(np.load(asked / "npy"))
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=live.url, headers=headers, trust_env=False, timeout=30) as client:
        for path, body in ((live.server.one, asked / "000.json"), (live.server.many, asked / "many")):
            answer = client.post(path, content=body.read_bytes()).raise_for_status().json()
            given = np.ravel(answer[live.server.scores])
            if np.abs(given - true[: len(given)]).max() > SAME:
                raise SystemExit(f"{live.server.name} returns other scores than XGBoost")


# The measurements


def measure(server: Server, asked: Path, scratch: Path, seconds: int) -> dict[str, Any]:
    """Start a server and measure it once."""
    one, many, npy = sorted(asked.glob("*.json")), [asked / "many"], [asked / "npy"]
    with Running(server, scratch) as live:
        check(live, asked, scratch)
        wrk(live, server.one, one, 16, 1)  # warm up
        measured = {f"{n} connections": wrk(live, server.one, one, n, seconds) for n in (1, 16, 64)}
        measured[f"{ROWS} rows, JSON"] = wrk(live, server.many, many, 16, seconds)
        if server.npy:
            measured[f"{ROWS} rows, npy"] = wrk(live, server.many, npy, 16, seconds)
        steady = open_loop(live.port, server.one, one, STEADY, 2 * seconds)
        resident, together = live.memory()
        figures = {"ready_s": live.ready_after, "resident_mb": resident, "together_mb": together}
        return {"figures": figures, "wrk": measured, "open": steady}


def asked_for(one: list[Path], scratch: Path) -> dict[str, Any]:
    """Measure our server at 500 requests/s for a minute, and at 3,500 requests/s while it is scraped."""
    with Running(SERVERS[0], scratch) as live:
        wrk(live, "/predict", one, 16, 1)
        minute = open_loop(live.port, "/predict", one, 500, 60)
        with ThreadPoolExecutor(1) as thread:
            scraped = thread.submit(scrapes, live, 13)
            sustained = open_loop(live.port, "/predict", one, 3500, 15)
        return {"500 requests/s": minute, "3500 requests/s": sustained, "scrapes then": scraped.result()}


def scrapes(live: Running, seconds: int) -> dict[str, float]:
    """Scrape /metrics five times a second, and return how many milliseconds each scrape took."""
    took = []
    time.sleep(1)  # wait until the load generator has started
    with httpx.Client(trust_env=False) as client:
        for _ in range(5 * seconds):
            took.append(client.get(f"http://127.0.0.1:{live.port}/metrics").raise_for_status().elapsed)
            time.sleep(0.2)
    milliseconds = [one.total_seconds() * 1e3 for one in took]
    return {"p50_ms": statistics.median(milliseconds), "worst_ms": max(milliseconds)}


def overload(one: list[Path], many: list[Path], scratch: Path) -> dict[str, Any]:
    """Overload our server for 30 s, and measure single rows before and right after.

    The load is three times the number of 100-row requests that the server can answer.
    """
    with Running(SERVERS[0], scratch) as live:
        before = open_loop(live.port, "/predict", one, STEADY, 5)
        load = round(3 * wrk(live, "/predict", many, 16, 3)["per_s"])
        calm = live.memory()[0]
        with ThreadPoolExecutor(1) as thread:
            flood = thread.submit(open_loop, live.port, "/predict", many, load, 30, connections=1000)
            memory = [calm]
            while not flood.done():
                memory.append(live.memory()[0])
                time.sleep(0.5)
        after = open_loop(live.port, "/predict", one, STEADY, 5)
        mb = {"before": calm, "most": max(memory)}
        return {"before": before, "flood": flood.result(), "the 5 s after": after, "memory_mb": mb}


# The report


ROWS_OF_TABLE: tuple[tuple[str, tuple[str, ...], float, str], ...] = (
    ("1 connection, requests/s", ("wrk", "1 connections", "per_s"), 1, ",.0f"),
    ("16 connections, requests/s", ("wrk", "16 connections", "per_s"), 1, ",.0f"),
    ("16 connections, p50 ms", ("wrk", "16 connections", "p50_ms"), 1, ".1f"),
    ("16 connections, p99 ms", ("wrk", "16 connections", "p99_ms"), 1, ".1f"),
    ("64 connections, requests/s", ("wrk", "64 connections", "per_s"), 1, ",.0f"),
    ("rows by 100, JSON, rows/s", ("wrk", "100 rows, JSON", "per_s"), ROWS, ",.0f"),
    ("rows by 100, .npy, rows/s", ("wrk", "100 rows, npy", "per_s"), ROWS, ",.0f"),
    ("open loop, 200 requests/s, p50 ms", ("open", "p50_ms"), 1, ".1f"),
    ("open loop, 200 requests/s, p99 ms", ("open", "p99_ms"), 1, ".1f"),
    ("CPU a request, ms", ("wrk", "16 connections", "cpu_ms"), 1, ".3f"),
    ("memory of the worker, MB", ("figures", "resident_mb"), 1, ".0f"),
    ("memory of all processes, MB", ("figures", "together_mb"), 1, ".0f"),
    ("start to ready, s", ("figures", "ready_s"), 1, ".1f"),
)


def figure(result: dict[str, Any], path: tuple[str, ...]) -> float | None:
    """Return one number of a server's results; None if the server was not measured that way."""
    for key in path:
        if key not in result:
            return None
        result = result[key]
    return float(result)  # type: ignore[arg-type]


def lines(servers: dict[str, Any]) -> list[list[str]]:
    """Return the result table: a row for each figure, a column for each server."""
    table = [["one worker, unless stated", *servers]]
    for name, path, times, form in ROWS_OF_TABLE:
        values = [figure(result, path) for result in servers.values()]
        table.append([name, *("-" if value is None else format(value * times, form) for value in values)])
    runs = [(*result["wrk"].values(), result["open"]) for result in servers.values()]
    failed = [sum(one["failed"] for one in each) for each in runs]
    return [*table, ["failed requests", *(f"{count:.0f}" for count in failed)]]


def plot(servers: dict[str, Any]) -> Figure:
    """Plot requests per second and p99 of each server."""
    panels = (
        ("requests/s, one worker, 16 connections", ("wrk", "16 connections", "per_s"), "{:,.0f}"),
        (f"p99 at {STEADY} requests/s (open loop), ms", ("open", "p99_ms"), "{:.1f}"),
    )
    drawn = [
        Panel(title, [figure(of, path) or 0 for of in servers.values()], form) for title, path, form in panels
    ]
    return bars([*servers], *drawn)


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
        asked = {server: scratch / str(at) for at, server in enumerate(SERVERS)}
        for server, folder in asked.items():
            write_bodies(server, width, folder)
        rounds: dict[Server, list[Any]] = {server: [] for server in SERVERS}
        for _ in range(options.rounds):
            for server in SERVERS:
                console.print(f"[dim]{server.name}")
                rounds[server].append(measure(server, asked[server], scratch, options.seconds))
        results = {server.name: middle(rounds[server]) for server in SERVERS}
        own = asked[SERVERS[0]]
        one = sorted(own.glob("*.json"))
        ours = {**asked_for(one, scratch), "overload": overload(one, [own / "many"], scratch)}
    console.print_json(json.dumps(ours))
    everything = {"machine": facts, "servers": results, "ours": ours}
    report("serving", lines(results), everything, plot(results))


if __name__ == "__main__":
    start("bench-serving", main)
