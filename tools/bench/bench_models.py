"""`make bench-models`: measures each model's bento at the load that its `sla` names, and against FastAPI.

An open loop sends `sla.requests_per_second` for a minute, three times; the median counts. Then wrk sends as
many requests as possible over 16 connections to three servers in turn: the bento, FastAPI around the same
scorer with the same metrics and log, and our server with a scorer that answers at once. The rows are those of
the rehearsal. The load generator runs on the same cores. `./loop repro` and `./loop bento` must have made the
model.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import bench_serving
import pandas as pd
import psutil
from shared import ROOT, console, middle, open_loop, report, start, wrk

from loop.core import params
from loop.core.errors import LoopError
from loop.core.files import read_json
from loop.core.names import package, public
from loop.core.project import Project
from loop.packaging import rehearse
from loop.packaging.bento import built
from loop.packaging.process import Server
from loop.review.evidence import sizes

ROWS = 500  # the number of different requests
SHORT = 5  # seconds of each measurement but the first open loop
CONSTANT = '''"""A scorer that returns the same score at once, to measure the server without the model."""

import msgspec
import numpy as np

from loop.runtime.columns import size
from loop.runtime.model import Meta


def load(folder):
    width = msgspec.json.decode((folder / "meta.json").read_bytes(), type=Meta).width
    return lambda rows: np.full((size(rows), width) if width else size(rows), 0.5)
'''
FASTAPI = bench_serving.Server(
    "FastAPI", (*bench_serving.UVICORN, "by_model:app"), ready="/openapi.json", packages=True
)


def promised(model: str) -> float:
    """Return the requests per second that the model's `sla` names; LoopError if it names none."""
    if not (rate := Project(ROOT, model).params.sla.requests_per_second):
        raise LoopError(f"{public(model)}: sla.requests_per_second is not set", fix="set it in params.yaml")
    return rate


def bodies(model: str, scratch: Path, together: int = 1) -> list[Path]:
    """Write a file for each request's body, from rows that were not used for training.

    A request has `together` rows.
    """
    inputs = read_json(Project(ROOT, model).trained / "meta.json")["inputs"]
    by_name = inputs[0]["datatype"] != "FP32"
    held_out = rehearse.held_out(Project(ROOT, model), ROWS)
    key, rows = held_out[0].key, [row.named if by_name else row.features for row in held_out]
    files = []
    for begin in range(0, len(rows) - together + 1, together):
        files.append(scratch / f"{begin}.json")
        some = rows[begin : begin + together]
        files[-1].write_text(json.dumps({key: some if together > 1 else some[0]}))
    return files


def most(server: Server, files: list[Path]) -> dict[str, float]:
    """Send as many requests as 16 connections can, after a second to warm up, and return what that takes.

    The memory is what only the server and its child processes use.
    """
    wrk(server, "/predict", files, 16, 1)
    got = wrk(server, "/predict", files, 16, SHORT)
    if got["failed"]:
        raise LoopError(f"{server.bento}: {got['failed']} requests failed: {server.output()[-500:]}")
    mine = psutil.Process(server.process.pid)
    used = sum(one.memory_full_info().uss for one in (mine, *mine.children(recursive=True)))
    return {**got, "MB": used / 1e6}


def measured(model: str, seconds: int, rounds: int) -> dict[str, float]:
    """Measure one model; return the table's row. The scorer's share is the CPU that a constant saves."""
    project = Project(ROOT, model)
    bento, rate = built(project).path, promised(model)
    with tempfile.TemporaryDirectory(prefix="bench-models-") as made:
        scratch = Path(made)
        files, log = bodies(model, scratch), scratch / "log"
        (scratch / "bento").symlink_to(bento)
        shutil.copytree(bento, scratch / "constant", symlinks=True)
        (scratch / "constant" / "src" / "scorer.py").write_text(CONSTANT)
        with Server(bento, log_dir=log) as server:
            most(server, files)  # warm up
            steady = [open_loop(server.port, "/predict", files, rate, seconds) for _ in range(rounds)]
        servers: dict[str, Server] = {
            "ours": Server(bento, log_dir=log),
            "FastAPI": bench_serving.Running(FASTAPI, scratch),
            "constant": Server(scratch / "constant", log_dir=log),
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        alone = []
        for turn in range(rounds):
            for name in [*servers][:: 1 if turn % 2 else -1]:
                with servers[name] as live:
                    runs[name].append(most(live, files))
                    if name == "constant":
                        alone.append(open_loop(live.port, "/predict", files, rate, SHORT))
    ours, theirs, constant = (middle(runs[name]) for name in servers)
    return {
        "required/s": rate,
        "required p99, ms": project.params.sla.p99_ms,
        "p99, ms": middle(steady)["p99, ms"],
        "failed": sum(each["failed"] for each in steady),
        "p99 of a constant, ms": middle(alone)["p99, ms"],
        "ours, requests/s": ours["requests/s"],
        "FastAPI, requests/s": theirs["requests/s"],
        "ratio": ours["requests/s"] / theirs["requests/s"],
        "share of the scorer": 1 - constant["CPU a request, ms"] / ours["CPU a request, ms"],
        "ours, MB": ours["MB"],
        "FastAPI, MB": theirs["MB"],
        "image, MB": sum(sizes(project).values()) / 1e6,
        "ready after, s": server.ready_after,
    }


def main() -> None:
    """Measure each model, and write the table after each."""
    parser = argparse.ArgumentParser("bench-models", description=__doc__)
    parser.add_argument("models", nargs="*", default=sorted(params.read(ROOT)))
    parser.add_argument("--seconds", type=int, default=60, help="seconds of each open-loop measurement (60)")
    parser.add_argument("--rounds", type=int, default=3, help="number of repetitions; the median counts (3)")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for model in map(package, given.models):
        console.print(f"[dim]{public(model)}")
        found[public(model)] = measured(model, given.seconds, given.rounds)
        report("models", pd.DataFrame(found).T, found)


if __name__ == "__main__":
    start("bench-models", main)
