"""Commands, load generators, the local cluster, tables and charts, which the benchmarks share."""

import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import psutil
from matplotlib.figure import Figure
from rich.console import Console

from loop.core.errors import LoopError

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parents[1]
AUTHOR = ("--config=user.name=bench", "--config=user.email=bench@example.com")
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
    run("git", "clone", "--quiet", "--no-checkout", *AUTHOR, source, tree)
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
    """Measure a server at the highest load that this many connections give, by wrk.

    `server` has a `port`, and `cpu_seconds()` returns how much CPU it has used.
    """
    media = "application/x-npy" if bodies[0].name == "npy" else "application/json"
    how = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=15s", "-s", BENCH / "wrk.lua"]
    before = server.cpu_seconds()
    printed = run("wrk", *how, f"http://127.0.0.1:{server.port}{path}", "--", media, *bodies)
    spent, got = server.cpu_seconds() - before, json.loads(printed.splitlines()[-1])
    return {
        "requests/s": got["requests"] / got["seconds"],
        "CPU a request, ms": 1e3 * spent / max(got["requests"], 1),
        **{key: got[key] for key in ("p50, ms", "p99, ms", "failed")},
    }


def open_loop(port: int, path: str, bodies: list[Path], rate: float, seconds: int, **more: Any) -> Any:
    """Measure the latency at a given request rate, in another process, which open_loop.py describes."""
    asked = {"address": "127.0.0.1", "port": port, "path": path, "host": "localhost", "connections": 64}
    asked |= {"bodies": [*map(str, bodies)], "rate": rate, "seconds": seconds, **more}
    return json.loads(run(sys.executable, BENCH / "open_loop.py", json.dumps(asked)))


def middle(rounds: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the median of every number over the rounds."""
    return pd.DataFrame(rounds).median(numeric_only=True).to_dict()


def machine() -> dict[str, Any]:
    """Describe the machine, the time of the measurement, and how busy the machine is with other work."""
    lines = run("cat", "/proc/cpuinfo", codes=(0, 1)).splitlines()  # only Linux has the file
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": next((line.partition(": ")[2] for line in lines if line.startswith("model name")), ""),
        "others_cpu_percent": psutil.cpu_percent(interval=2),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def shown(value: Any) -> str:
    """Return a figure with three digits, or with all that are before the point; `-` if it is missing."""
    if isinstance(value, str):
        return value
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def report(name: str, table: pd.DataFrame, results: Any, drawn: Figure | None = None) -> None:
    """Print a table, and write it to build/bench-NAME with the results, as JSON, and a figure."""
    folder = ROOT / "build" / f"bench-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    body = [[row, *map(shown, values)] for row, *values in table.itertuples()]
    ruled = [["", *table.columns], ["---", *["--:"] * len(table.columns)], *body]
    text = "".join(f"| {' | '.join(row)} |\n" for row in ruled)
    (folder / f"{name}.md").write_text(text)
    encoded = msgspec.json.encode(results, enc_hook=float)  # with null for missing figures, not NaN
    (folder / f"{name}.json").write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    if drawn:
        drawn.savefig(folder / f"{name}.svg")
    print(text, f"written to {folder}", sep="\n")


def bars(
    names: Sequence[str], panels: Mapping[str, Sequence[float]], errors: Mapping[str, Any] | None = None
) -> Figure:
    """Draw panels side by side, with a horizontal bar for each name, from the top."""
    drawn = Figure((10, 0.8 + 0.36 * len(names)), layout="constrained")
    all_axes = drawn.subplots(1, len(panels), sharey=True)
    for axes, (title, values) in zip(all_axes, panels.items(), strict=True):
        bar = axes.barh(names, values, xerr=(errors or {}).get(title), color="#0072b2", ecolor="#444444")
        axes.bar_label(bar, fmt=shown, padding=3)
        axes.set_title(title, fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.2)
    all_axes[0].invert_yaxis()
    return drawn
