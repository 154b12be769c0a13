"""Measures how the monitor reads a long prediction log, against another commit: CPU and peak memory.

Run it by `make bench-monitor ARGS="v1.2.0 --lines 10000000"`. Each line of the log has 15 features, and the
log is divided into segments as servers write them. The store has every prediction's event time, and the label
of every tenth prediction. Each build reads the log in its own process, one after the other. This build reads
it twice, because the first time it also converts the segments to Parquet.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import duckdb
from shared import ROOT, console, report, run, start

from loop.core.git import Git

FEATURES, SEGMENT, DAYS = 15, 200_000, 14  # a line is about 330 bytes, so a segment about 64 MB
READ = """
import json, resource
from datetime import datetime
from sys import argv
from loop.core.models import Roles
from loop.monitoring import log
names = [f"f{place}" for place in range(int(argv[2]))]
roles, columns = Roles(id="id", label="y", time="at"), {"id": "int64", "at": "timestamp[us]", "y": "int8"}
found = log.read(
    f"{argv[1]}/log", "m", names, roles, store=f"{argv[1]}/store", until=datetime(2026, 3, 15), days=7,
    columns=columns,
)
counts = (found.logged, found.predictions, len(found.rows), int(found.labelled["rows"].sum()), found.broken)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps((used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, " ".join(map(str, counts)))))
"""


def make(folder: Path, lines: int) -> None:
    """Write a log of `lines` predictions over two weeks, and the store with their times and labels."""
    for name in ("log", "store/transactions", "store/labels"):
        (folder / name).mkdir(parents=True)
    begin, seconds = "timestamp '2026-03-01'", f"to_seconds(id * {DAYS * 86_400} / {lines})"
    with duckdb.connect() as con:
        con.execute("set preserve_insertion_order = false")
        features = ", ".join(f"round(random() * {place + 1}, 4)::float" for place in range(FEATURES))
        for number, first in enumerate(range(0, lines, SEGMENT)):
            until = min(first + SEGMENT, lines)
            last = until == lines
            name = "host-1.jsonl" if last else f"host-1.{1_700_000_000_000_000_000 + number}.jsonl"
            con.execute(
                f"""copy (select strftime({begin} + {seconds}, '%Y-%m-%dT%H:%M:%S.%f+00:00') as time,
                id, 'm' as model, '0123456789ab' as version, [{features}] as features, random() as score,
                (random() < 0.1)::int as class from range({first}, {until}) as t(id))
                to '{folder}/log/{name}' (format json)"""  # noqa: S608 - built from constants, as below
            )
            # Make the file look old, because the monitor does not convert files that were written just now.
            os.utime(folder / "log" / name, (0, 0))
        event, ids = f"({begin} + {seconds})::timestamp", f"range({lines}) as t(id)"
        con.execute(
            f"""copy (select id, {event} as "at" from {ids})
            to '{folder}/store/transactions/a.parquet'"""  # noqa: S608
        )
        con.execute(
            f"""copy (select id, (random() < 0.1)::tinyint as y, {event} + interval 1 day as reported_at
            from {ids} where id % 10 = 0) to '{folder}/store/labels/a.parquet'"""  # noqa: S608
        )


def read(source: Path, folder: Path) -> tuple[float, float, str]:
    """Let one build read the log; return its CPU seconds, peak memory in MB and output."""
    environment = {**os.environ, "PYTHONPATH": str(source / "src")}
    printed = run(sys.executable, "-", str(folder), str(FEATURES), input=READ, env=environment)
    cpu, memory, counts = json.loads(printed.splitlines()[-1])
    return cpu, memory, counts


def main() -> None:
    """Write the log once, let both builds read it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="the commit or tag to compare with")
    parser.add_argument("--lines", type=int, default=10_000_000)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-monitor-") as scratch,
        Git(ROOT).worktree(asked.base) as before,
    ):
        folder = Path(scratch) / "made"
        console.print(f"writing {asked.lines:,} predictions")
        make(folder, asked.lines)
        rows = [("reading", "CPU s", "peak MB", "logged, in the window, rows, labelled, broken")]
        figures = []
        for name, source in (f"before, {asked.base}", before), ("now, and converts", ROOT), ("now", ROOT):
            figures.append(read(source, folder))
            cpu, memory, said = figures[-1]
            rows.append((name, f"{cpu:.1f}", f"{memory:.0f}", said))
        (cpu, memory, _), _, (later, less, _) = figures
        rows.append(("ratio", f"{later / cpu:.2f}", f"{less / memory:.2f}", ""))
        report("monitor", rows)


if __name__ == "__main__":
    start("bench-monitor", main)
