"""Commands, load generators, the local cluster, medians, tables and charts, which the benchmarks share."""

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Column, Table

from loop.core.errors import LoopError

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
console = Console()


def start(name: str, main: Callable[[], int | None]) -> None:
    """Run a benchmark, and exit with what it returns, or with its name and the message of its LoopError."""
    try:
        sys.exit(main())
    except LoopError as error:
        sys.exit(f"{name}: {error}")


def run(*command: str | Path, codes: Sequence[int] = (0,), **options: Any) -> str:
    """Run a command and return its output; LoopError with the command's own message on another exit code."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    done = subprocess.run(command, text=True, check=False, **(pipes | options))
    if done.returncode not in codes:
        words = " ".join(map(str, command[:6]))
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise LoopError(f"{words} ended with {done.returncode}:\n{said}")
    return done.stdout


def wait(what: str, ready: Callable[[], Any], seconds: float, every: float = 0.05) -> Any:
    """Wait until `ready()` returns something that is true, and return it; LoopError after `seconds`."""
    end = time.monotonic() + seconds
    while not (found := ready()):
        if time.monotonic() > end:
            raise LoopError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)
    return found


def clone(folder: Path, source: Path, commit: str = "HEAD") -> Path:
    """Clone a commit of a repository as branch main of FOLDER/clone, whose origin is an empty repository."""
    tree, origin = folder / "clone", folder / "origin.git"
    author = ("--config=user.name=bench", "--config=user.email=bench@example.com")
    run("git", "clone", "--quiet", "--no-checkout", *author, source, tree)
    run("git", "checkout", "--quiet", "-B", "main", commit, cwd=tree)
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", origin)
    run("git", "remote", "set-url", "origin", origin, cwd=tree)
    return tree


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and of its ended children."""
    return float(sum(psutil.Process(pid).cpu_times()[:4]))


class Cluster:
    """The local cluster, whose addresses and paths `tools/cluster` prints."""

    def __init__(self) -> None:
        self.tool = (sys.executable, ROOT / "tools" / "cluster")
        self.facts: dict[str, Any] = json.loads(run(*self.tool, "status", "--json"))

    def kubectl(self, *words: str, **options: Any) -> str:
        """Run the cluster's kubectl and return its output."""
        program = Path(self.facts["kubeconfig"]).parent / "programs" / "kubectl"
        return run(program, f"--kubeconfig={self.facts['kubeconfig']}", *words, **options)

    def apply(self, manifests: str) -> None:
        """Apply manifests in YAML or JSON."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", input=manifests)


def wrk(server: Any, path: str, bodies: list[Path], connections: int, seconds: int) -> dict[str, float]:
    """Measure requests per second, latency and CPU per request by wrk, at the highest possible load.

    `server` has a `port`, and `cpu_seconds()` returns how much CPU it has used.
    """
    media = "application/x-npy" if bodies[0].name == "npy" else "application/json"
    how = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=15s", "-s", BENCH / "wrk.lua"]
    command = ["wrk", *how, f"http://127.0.0.1:{server.port}{path}", "--", media, *bodies]
    before = server.cpu_seconds()
    printed = run(*command)
    spent, got = server.cpu_seconds() - before, json.loads(printed.splitlines()[-1])
    return {
        "per_s": got["requests"] / got["seconds"],
        "cpu_ms": 1e3 * spent / max(got["requests"], 1),
        **{key: got[key] for key in ("p50_ms", "p99_ms", "failed")},
    }


def open_loop(
    port: int, path: str, bodies: list[Path], rate: float, seconds: int, **options: str | int
) -> dict[str, Any]:
    """Measure the latency at a given request rate, counted from the time at which each request was due.

    `options` are those of open_loop.py.
    """
    words = [f"--{name}={value}" for name, value in options.items()]
    numbers = (str(rate), str(seconds))
    answer: dict[str, Any] = json.loads(
        run(sys.executable, BENCH / "open_loop.py", *words, str(port), path, *numbers, *bodies)
    )
    return answer


def middle(rounds: list[Any]) -> Any:
    """Return the median of every number over the rounds."""
    if isinstance(rounds[0], dict):
        return {key: middle([one.get(key, 0) for one in rounds]) for key in rounds[0]}
    return statistics.median(rounds)


def machine() -> dict[str, Any]:
    """Describe the machine, the time of the measurement, and how busy the machine is with other work."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": next((line.partition(": ")[2] for line in lines if line.startswith("model name")), ""),
        "others_cpu_percent": psutil.cpu_percent(interval=2),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def report(
    name: str, rows: Sequence[Sequence[str]], results: Any = None, drawn: Figure | None = None
) -> None:
    """Print a table, whose first row is its head, and write it to build/bench-NAME, as Markdown.

    The results, as JSON, and a figure are written beside it.
    """
    head, *others = rows
    table = Table(head[0], *(Column(name, justify="right") for name in head[1:]))
    for row in others:
        table.add_row(*row)
    console.print(table)
    folder = ROOT / "build" / f"bench-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    ruled = [head, ["---", *["--:"] * (len(head) - 1)], *others]
    (folder / f"{name}.md").write_text("".join(f"| {' | '.join(row)} |\n" for row in ruled))
    if results:
        (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    if drawn:
        drawn.savefig(folder / f"{name}.svg")
    console.print(f"written to {folder}")


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
