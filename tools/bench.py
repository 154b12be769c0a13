"""`make bench`: what people wait for, side by side with what a user would type instead.

Times whole commands, in turn (A B A B …) on one machine, and prints medians and the ratio; the ratio is
what to read, as machines differ and are busy.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
PAIRS = {
    "a repro with nothing to do, against dvc's own": (
        ["./loop", "repro"],
        [sys.executable, "-m", "dvc", "repro"],
    ),
    "the command line's help, against Python starting": (
        ["./loop", "--help"],
        [sys.executable, "-c", "pass"],
    ),
    "the locked environment, found, against sh starting": (["tools/environment"], ["sh", "-c", ":"]),
}


def seconds(command: list[str]) -> float:
    """Wall seconds of one run; a failing command stops the benchmark."""
    begin = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    """Run every pair and print the table."""
    table = Table("what", "ours, s", "the other, s", "ratio")
    for what, (ours, other) in PAIRS.items():
        seconds(ours)
        pairs = [(seconds(ours), seconds(other)) for _ in range(RUNS)]
        medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
        ratio = statistics.median(a / b for a, b in pairs)
        table.add_row(what, *(f"{median:.2f}" for median in medians), f"{ratio:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
