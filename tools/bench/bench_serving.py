"""`make bench-serving`: compares the bento's server with servers that a team might choose instead.

All servers serve the same model on the same machine and write the same metrics and log. They are measured in
turn, in rounds (A B C A B C …): throughput by wrk, latency by an open loop. docs/performance.md explains the
results.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import xgboost
import yaml
from matplotlib.figure import Figure
from shared import BENCH, ROOT, console, machine, middle, open_loop, write_table, wrk

from loop.core import params
from loop.core.names import public
from loop.packaging.process import free_port

RIVALS = BENCH / "rivals"
OUT = ROOT / "build" / "bench-serving"
BIN = Path(sys.executable).parent
PACKAGE = next(iter(params.read(ROOT)))
FEATURES = import_module(f"models.{PACKAGE}.features").FEATURES
SERVICE = PACKAGE.title().replace("_", "")  # the service's name in bentos/<package>/service.py
ROWS = 100  # rows in a request with many rows
KEY = "0123456789ab"
STEADY = 200  # requests per second of the open loop
SAME = 1e-6  # how far a server's score may be from XGBoost's own
TO_READY = 90  # seconds that a server may take to start
SAVE = """
import sys, mlflow
mlflow.pyfunc.save_model(sys.argv[1], python_model=sys.argv[2], pip_requirements=[])
"""


@dataclass(frozen=True)
class Server:
    """How to start a server, and the form of its requests and answers."""

    name: str
    command: tuple[str, ...]
    many: str = "/predict"
    one: str = "/predict"
    key: str = "features"  # the key of the rows in a request
    scores: str = "score"  # the key of the scores in an answer
    ready: str = "/readyz"
    listed: bool = False  # whether a single row must be sent as a list of one row
    npy: bool = False


SERVERS = (
    Server("ours", (sys.executable, "-m", "loop.runtime.serve", "--port={port}"), npy=True),
    Server(
        "ours, by `bentoml serve`",
        (f"{BIN}/bentoml", "serve", f"service:{SERVICE}", "--port={port}"),
        npy=True,
    ),
    Server(
        "FastAPI + uvicorn",
        (
            *(f"{BIN}/uvicorn", "by_fastapi:app", f"--app-dir={RIVALS}", "--port={port}"),
            *("--loop=uvloop", "--http=httptools"),
            *("--no-access-log", "--log-level=warning"),
        ),
        many="/many",
    ),
    Server(
        "BentoML `@bentoml.api`",
        (f"{BIN}/bentoml", "serve", "by_bentoml:Stock", f"--working-dir={RIVALS}", "--port={port}"),
        many="/many",
    ),
    Server(
        "mlflow models serve",
        (
            *(f"{BIN}/mlflow", "models", "serve", "--model-uri={bento}/../mlflow", "--env-manager=local"),
            *("--host=127.0.0.1", "--port={port}", "--workers=1"),
        ),
        one="/invocations",
        many="/invocations",
        key="inputs",
        scores="predictions",
        ready="/ping",
        listed=True,
    ),
    Server("LitServe", ("{litserve}/bin/python", f"{RIVALS}/by_litserve.py", "{port}"), ready="/health"),
)


# The model that is served, and the requests


def write_bento(folder: Path) -> None:
    """Write a bento's source folder, as `./loop bento` does, with a model as large as in params.yaml."""
    train = yaml.safe_load((ROOT / "params.yaml").read_text())["models"][PACKAGE]["train"]
    rng = np.random.default_rng(0)
    rows = rng.lognormal(size=(20_000, len(FEATURES))).astype(np.float32)
    labels = rows[:, 0] + rows[:, -1] * rng.random(len(rows)) > 3  # noqa: PLR2004
    settings = {"objective": "binary:logistic", "max_depth": train["max_depth"], "seed": 0}
    data = xgboost.QuantileDMatrix(rows, label=labels)
    booster = xgboost.train(settings, data, train["n_estimators"])
    shutil.copytree(ROOT / "bentos" / PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "src" / "models" / PACKAGE / "scorer.py", folder)
    model = folder / "model"
    model.mkdir()
    booster.save_model(model / "model.ubj")
    meta = {
        "task": "binary",
        "features": FEATURES,
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, len(FEATURES)]}],
        "classes": [0, 1],
        "threshold": 0.5,
        "example": rows[0].tolist(),
    }
    (model / "meta.json").write_text(json.dumps(meta))
    files = {path.name: sha256(path.read_bytes()).hexdigest() for path in model.iterdir()}
    release = {"model": public(PACKAGE), "key": KEY, "files": files}
    (folder / "release.json").write_text(json.dumps(release))


def write_mlflow(folder: Path, env: dict[str, str]) -> None:
    """Save the same model for MLflow, in a process of its own because importing mlflow takes long."""
    command = [sys.executable, "-c", SAVE, str(folder), str(RIVALS / "by_mlflow.py")]
    subprocess.run(command, env=env, check=True, capture_output=True)


@dataclass(frozen=True)
class Asked:
    """The files with the request bodies for one server."""

    one: list[Path]
    many: Path
    npy: Path | None


def write_bodies(server: Server, folder: Path) -> Asked:
    """Write request bodies for a server: a hundred rows as single requests, and as one request."""
    folder.mkdir()
    rows = np.random.default_rng(1).lognormal(size=(ROWS, len(FEATURES))).round(2).astype(np.float32)
    lists, named = [[round(value, 2) for value in row] for row in rows.tolist()], server.key == "features"
    for number, row in enumerate(lists):
        body = {server.key: [row] if server.listed else row, **({"id": f"tx-{number}"} if named else {})}
        (folder / f"{number:03}.json").write_text(json.dumps(body))
    (folder / "many").write_text(json.dumps({server.key: lists}))
    np.save(file := BytesIO(), rows)
    (folder / "npy").write_bytes(file.getvalue())
    return Asked(sorted(folder.glob("*.json")), folder / "many", folder / "npy" if server.npy else None)


# The running server


@dataclass
class Running:
    """A running server, and the seconds after which it was ready."""

    server: Server
    process: psutil.Popen
    port: int
    output: Path
    ready_after: float = 0.0

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of all processes of the server so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.tree())

    def memory(self) -> tuple[float, float]:
        """Return the MB of the largest process, and of all processes with shared pages counted once."""
        memory = [process.memory_full_info() for process in self.tree()]
        return max(one.rss for one in memory) / 1e6, sum(one.pss for one in memory) / 1e6

    def wait(self) -> None:
        """Wait until the server is ready; SystemExit with the end of its output if it does not start."""
        end = time.monotonic() + TO_READY
        with httpx.Client(trust_env=False) as client:
            while time.monotonic() < end and self.process.poll() is None:
                try:
                    if client.get(f"http://127.0.0.1:{self.port}{self.server.ready}").is_success:
                        return
                except httpx.TransportError:
                    time.sleep(0.02)
        raise SystemExit(f"{self.server.name} does not start:\n{self.output.read_text()[-3000:]}")


@contextmanager
def running(server: Server, scratch: Path) -> Iterator[Running]:
    """Start a server with an empty prediction log, and stop it and its processes when the block ends."""
    port, bento, output = free_port(), scratch / "bento", scratch / "output"
    with tempfile.TemporaryDirectory(dir=scratch) as own, output.open("wb") as file:
        env = environment(bento, Path(own))
        at = {"port": port, "bento": bento, "litserve": litserve()}
        words = [word.format(**at) for word in server.command]
        begun = time.perf_counter()
        process = psutil.Popen(words, cwd=bento, env=env, stdout=file, stderr=file, start_new_session=True)
        started = Running(server, process, port, output)
        try:
            started.wait()
            started.ready_after = time.perf_counter() - begun
            yield started
        finally:
            end(process)


@cache
def litserve() -> str:
    """Return the environment of LitServe, which the project's own lock does not contain."""
    command = [ROOT / "tools" / "environment", BENCH / "requirements.lock"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def end(process: psutil.Popen) -> None:
    """End a server by SIGTERM, and by SIGKILL the processes of its session that remain."""
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    with suppress(psutil.TimeoutExpired):
        process.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def environment(bento: Path, own: Path) -> dict[str, str]:
    """Return the environment variables that all servers get."""
    return {
        **os.environ,
        "PATH": os.pathsep.join((str(BIN), os.environ["PATH"])),  # mlflow looks for uvicorn on PATH
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT / "src", RIVALS))),
        "BENTO": str(bento),
        "PREDICTION_LOG_DIR": str(own / "log"),
        "BENTOML_HOME": str(own / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def check(live: Running, asked: Asked, scratch: Path) -> None:
    """Check that a server's scores equal XGBoost's own, so that all servers do the same work."""
    booster = xgboost.Booster({"nthread": 1}, model_file=scratch / "bento" / "model" / "model.ubj")
    true = booster.inplace_predict(np.load(asked.many.with_name("npy")))
    url = f"http://127.0.0.1:{live.port}"
    headers = {"Content-Type": "application/json"}
    with httpx.Client(base_url=url, headers=headers, trust_env=False, timeout=30) as client:
        for path, body in ((live.server.one, asked.one[0]), (live.server.many, asked.many)):
            answer = client.post(path, content=body.read_bytes()).raise_for_status().json()
            given = np.ravel(answer[live.server.scores])
            if np.abs(given - true[: len(given)]).max() > SAME:
                raise SystemExit(f"{live.server.name} returns other scores than XGBoost")


# The measurements


def cells(live: Running, asked: Asked, seconds: int) -> dict[str, dict[str, float]]:
    """Measure a server by wrk: single rows over 1, 16 and 64 connections, and many rows in a request."""
    one, many = live.server.one, live.server.many
    wrk(live, one, asked.one, 16, 1)  # warm up
    measured = {f"{n} connections": wrk(live, one, asked.one, n, seconds) for n in (1, 16, 64)}
    measured[f"{ROWS} rows, JSON"] = wrk(live, many, [asked.many], 16, seconds)
    if asked.npy:
        measured[f"{ROWS} rows, npy"] = wrk(live, many, [asked.npy], 16, seconds)
    return measured


def measure(server: Server, asked: Asked, scratch: Path, seconds: int) -> dict[str, Any]:
    """Start a server and measure it once; before that, measure how busy the machine is otherwise."""
    others = psutil.cpu_percent(interval=1)
    with running(server, scratch) as live:
        check(live, asked, scratch)
        idle = live.memory()
        measured = cells(live, asked, seconds)
        steady = open_loop(live, server.one, asked.one, STEADY, 2 * seconds)
        resident, together = live.memory()
        memory = {"idle_mb": idle[0], "resident_mb": resident, "together_mb": together}
        figures = {"ready_s": live.ready_after, **memory, "others_percent": others}
        return {"figures": figures, "wrk": measured, "open": steady}


def asked_for(asked: Asked, scratch: Path) -> dict[str, Any]:
    """Measure our server at 500 requests/s for a minute, and at 3,500 requests/s while it is scraped."""
    with running(SERVERS[0], scratch) as live:
        wrk(live, live.server.one, asked.one, 16, 1)
        minute = open_loop(live, live.server.one, asked.one, 500, 60)
        with ThreadPoolExecutor(1) as thread:
            scraped = thread.submit(scrapes, live, 13)
            sustained = open_loop(live, live.server.one, asked.one, 3500, 15)
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


def overload(asked: Asked, scratch: Path) -> dict[str, Any]:
    """Overload our server for 30 s, and measure single rows before and right after.

    The load is three times the number of 100-row requests that the server can answer.
    """
    with running(SERVERS[0], scratch) as live:
        single, many = live.server.one, live.server.many
        before = open_loop(live, single, asked.one, STEADY, 5)
        load = round(3 * wrk(live, many, [asked.many], 16, 3)["per_s"])
        calm = live.memory()[0]
        with ThreadPoolExecutor(1) as thread:
            flood = thread.submit(open_loop, live, many, [asked.many], load, 30, connections=1000)
            memory = [calm]
            while not flood.done():
                memory.append(live.memory()[0])
                time.sleep(0.5)
        after = open_loop(live, single, asked.one, STEADY, 5)
        mb = {"before": calm, "most": max(memory)}
        return {"before": before, "flood": flood.result(), "the 5 s after": after, "memory_mb": mb}


def described() -> dict[str, Any]:
    """Describe the machine and the versions, and how busy the machine is with other work."""
    busy = psutil.cpu_percent(interval=2)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ("bentoml", "fastapi", "uvicorn", "mlflow", "xgboost-cpu", "pydantic")
    return {
        **machine(),
        "cpu": names[0] if names else platform.processor(),
        "others_cpu_percent": busy,
        "load": os.getloadavg(),
        **{name: version(name) for name in packages},
    }


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


def report(results: dict[str, Any]) -> None:
    """Print the result table, and write it as Markdown, JSON and a plot."""
    write_table(OUT / "serving.md", lines(results["servers"]))
    console.print_json(json.dumps(results["ours"]))
    (OUT / "serving.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(results["servers"]).savefig(OUT / "serving.svg")
    console.print(f"{OUT}: serving.json, serving.md, serving.svg")


def plot(servers: dict[str, Any]) -> Figure:
    """Plot each server's throughput with one worker, and its 99th percentile of latency."""
    drawn = Figure((10, 3.2), layout="constrained")
    left, right = drawn.subplots(1, 2, sharey=True)
    for axes, title, path in (
        (left, "requests/s, one worker, 16 connections", ("wrk", "16 connections", "per_s")),
        (right, f"p99 at {STEADY} requests/s (open loop), ms", ("open", "p99_ms")),
    ):
        values = [figure(result, path) or 0 for result in servers.values()]
        bars = axes.barh(list(servers), values, color=["#0072b2", *["#999999"] * (len(servers) - 1)])
        axes.bar_label(bars, fmt="{:,.0f}" if axes is left else "{:.1f}", padding=3)
        axes.set_title(title, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.15)
    left.invert_yaxis()
    return drawn


def main() -> None:
    """Measure every server, and report the results."""
    parser = argparse.ArgumentParser("bench-serving", description=__doc__)
    parser.add_argument("--seconds", type=int, default=3, help="seconds of each measurement by wrk (3)")
    parser.add_argument("--rounds", type=int, default=2, help="number of repetitions; the median counts (2)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as made:
        scratch, facts = Path(made), described()
        write_bento(scratch / "bento")
        write_mlflow(scratch / "mlflow", environment(scratch / "bento", scratch))
        asked = {server: write_bodies(server, scratch / str(at)) for at, server in enumerate(SERVERS)}
        rounds: dict[Server, list[Any]] = {server: [] for server in SERVERS}
        for _ in range(options.rounds):
            for server in SERVERS:
                console.print(f"[dim]{server.name}")
                rounds[server].append(measure(server, asked[server], scratch, options.seconds))
        results = {server.name: middle(rounds[server]) for server in SERVERS}
        ours = {**asked_for(asked[SERVERS[0]], scratch), "overload": overload(asked[SERVERS[0]], scratch)}
    report({"machine": facts, "servers": results, "ours": ours})


if __name__ == "__main__":
    main()
