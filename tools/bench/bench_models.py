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
from typing import Any

import bench_serving
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
ROUNDS = 3  # the number of repetitions; the median counts
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


def most(server: Server, files: list[Path], seconds: int) -> dict[str, float]:
    """Send as many requests as 16 connections can; return requests per second and CPU per request."""
    got = wrk(server, "/predict", files, 16, seconds)
    if got["failed"]:
        raise LoopError(f"{server.bento}: {got['failed']} requests failed: {server.output()[-500:]}")
    return {key: got[key] for key in ("per_s", "cpu_ms")}


def memory(server: Server) -> float:
    """Return the MB of memory that only the server and its child processes use."""
    mine = psutil.Process(server.process.pid)
    return sum(one.memory_full_info().uss for one in (mine, *mine.children(recursive=True))) / 1e6


def measured(model: str, seconds: int) -> dict[str, Any]:
    """Measure one model, in open loops of `seconds`, and return all its figures."""
    project = Project(ROOT, model)
    bento, target = built(project).path, project.params.sla
    if not (rate := target.requests_per_second):
        said = f"{public(model)}: sla.requests_per_second is not set"
        raise LoopError(said, fix="set it in params.yaml")
    with tempfile.TemporaryDirectory(prefix="bench-models-") as made:
        scratch = Path(made)
        files = bodies(model, scratch)
        log = scratch / "log"
        with Server(bento, log_dir=log) as server:
            ready = server.ready_after
            most(server, files, 1)  # warm up
            steady = [open_loop(server.port, "/predict", files, rate, seconds) for _ in range(ROUNDS)]
        (scratch / "bento").symlink_to(bento)
        constant = scratch / "constant"
        shutil.copytree(bento, constant, symlinks=True)
        (constant / "src" / "scorer.py").write_text(CONSTANT)
        servers: dict[str, Server] = {
            "ours": Server(bento, log_dir=log),
            "FastAPI": bench_serving.Running(FASTAPI, scratch),
            "constant": Server(constant, log_dir=log),
        }
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
        alone: list[dict[str, Any]] = []
        for turn in range(ROUNDS):
            for name in [*servers][:: 1 if turn % 2 else -1]:
                with servers[name] as server:
                    most(server, files, 1)
                    runs[name].append(most(server, files, SHORT) | {"mb": memory(server)})
                    if name == "constant":
                        alone.append(open_loop(server.port, "/predict", files, rate, SHORT))
    return {
        "target": {"per_s": rate, "p99_ms": target.p99_ms},
        "steady": {name: value for name, value in middle(steady).items() if name != "statuses"},
        "constant_p99_ms": middle(alone)["p99_ms"],
        "failed": sum(each["failed"] for each in steady),
        "ready_s": ready,
        "image_mb": sum(sizes(project).values()) / 1e6,
        **{name: middle(each) for name, each in runs.items()},
    }


def row(model: str, of: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a model's heads and figures; the scorer's share is the CPU that a constant would save."""
    ours, theirs, constant = of["ours"], of["FastAPI"], of["constant"]
    return [
        ("model", public(model)),
        ("load (sla)", f"{of['target']['per_s']:,.0f}/s, {of['target']['p99_ms']:g} ms"),
        ("p99", f"{of['steady']['p99_ms']:.1f} ms"),
        ("failed", f"{of['failed']}"),
        ("p99 of a constant", f"{of['constant_p99_ms']:.1f} ms"),
        ("ours, requests/s", f"{ours['per_s']:,.0f}"),
        ("FastAPI", f"{theirs['per_s']:,.0f}"),
        ("ratio", f"{ours['per_s'] / theirs['per_s']:.1f}"),
        ("share of the scorer", f"{max(0.0, 1 - constant['cpu_ms'] / ours['cpu_ms']):.0%}"),
        ("MB, ours", f"{ours['mb']:.0f}"),
        ("FastAPI", f"{theirs['mb']:.0f}"),
        ("image, MB", f"{of['image_mb']:.0f}"),
        ("ready after", f"{of['ready_s']:.1f} s"),
    ]


def main() -> None:
    """Measure each model, and write the table after each."""
    parser = argparse.ArgumentParser("bench-models", description=__doc__)
    parser.add_argument("models", nargs="*", default=sorted(params.read(ROOT)))
    parser.add_argument("--seconds", type=int, default=60, help="seconds of each open-loop measurement (60)")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    for model in map(package, given.models):
        console.print(f"[dim]{public(model)}")
        found[model] = measured(model, given.seconds)
        rows = [row(model, of) for model, of in found.items()]
        head = [name for name, _ in rows[0]]
        report("models", [head, *([text for _, text in cells] for cells in rows)], found)


if __name__ == "__main__":
    start("bench-models", main)
