"""Load generators, medians, facts about the machine and tables, which the benchmarks share."""

import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
console = Console()


def wrk(server: Any, path: str, bodies: list[Path], connections: int, seconds: int) -> dict[str, float]:
    """Measure requests per second, latency and CPU per request by wrk, at the highest possible load.

    `server` has a `port`, and `cpu_seconds()` returns how much CPU it has used.
    """
    media = "application/x-npy" if bodies[0].name == "npy" else "application/json"
    how = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=15s", "-s", BENCH / "wrk.lua"]
    command = ["wrk", *how, f"http://127.0.0.1:{server.port}{path}", "--", media, *bodies]
    before = server.cpu_seconds()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent, got = server.cpu_seconds() - before, json.loads(done.stdout.splitlines()[-1])
    return {
        "per_s": got["requests"] / got["seconds"],
        "cpu_ms": 1e3 * spent / max(got["requests"], 1),
        **{key: got[key] for key in ("p50_ms", "p99_ms", "failed")},
    }


def open_loop(
    server: Any, path: str, bodies: list[Path], rate: float, seconds: int, *, connections: int = 64
) -> dict[str, Any]:
    """Measure the latency at a given request rate, counted from the time at which each request was due."""
    program = [sys.executable, BENCH / "open_loop.py", f"--connections={connections}"]
    command = [*program, str(server.port), path, str(rate), str(seconds), *bodies]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def run(*command: str | Path, stdin: str | None = None, **options: Any) -> str:
    """Run a command and return its output; if it fails, exit with the command's own message."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:6]))}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def kubectl(facts: dict[str, Any], *words: str, stdin: str | None = None) -> str:
    """Run kubectl on the cluster that `tools/cluster status --json` describes, and return its output."""
    program = Path(facts["kubeconfig"]).parent / "programs" / "kubectl"
    return run(program, f"--kubeconfig={facts['kubeconfig']}", *words, stdin=stdin)


def middle(rounds: list[Any]) -> Any:
    """Return the median of every number over the rounds."""
    if isinstance(rounds[0], dict):
        return {key: middle([one.get(key, 0) for one in rounds]) for key in rounds[0]}
    return statistics.median(rounds)


def machine() -> dict[str, Any]:
    """Describe the machine and the time of the measurement."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def write_table(path: Path, rows: Sequence[Sequence[str]]) -> None:
    """Print a table, whose first row is its head, and write it as Markdown."""
    head, *others = rows
    table = Table(head[0], *(Column(name, justify="right") for name in head[1:]))
    for row in others:
        table.add_row(*row)
    console.print(table)
    path.parent.mkdir(parents=True, exist_ok=True)
    ruled = [head, ["---", *["--:"] * (len(head) - 1)], *others]
    path.write_text("".join(f"| {' | '.join(row)} |\n" for row in ruled))


class Panel(NamedTuple):
    """A part of a bar chart: its title, a value for each bar, their format, and maybe their error bars."""

    title: str
    values: Sequence[float]
    form: str
    errors: Sequence[Sequence[float]] | None = None


def bars(names: Sequence[str], *panels: Panel) -> Figure:
    """Draw panels side by side, with a horizontal bar for each name, from the top."""
    drawn = Figure((10, 0.8 + 0.36 * len(names)), layout="constrained")
    all_axes = drawn.subplots(1, len(panels), sharey=True)
    for axes, panel in zip(all_axes, panels, strict=True):
        shown = axes.barh(names, panel.values, xerr=panel.errors, color="#0072b2", ecolor="#444444")
        axes.bar_label(shown, fmt=panel.form, padding=3)
        axes.set_title(panel.title, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.2)
    all_axes[0].invert_yaxis()
    return drawn
