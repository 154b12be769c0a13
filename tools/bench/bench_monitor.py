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
import pandas as pd
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
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({
    "CPU, s": used.ru_utime + used.ru_stime, "peak, MB": used.ru_maxrss / 1024,
    "logged": found.logged, "in the window": found.predictions, "rows": len(found.rows),
    "labelled": int(found.labelled["rows"].sum()), "broken": found.broken,
}))
"""


def make(folder: Path, lines: int) -> None:
    """Write a log of `lines` predictions over two weeks, and the store with their times and labels."""
    for name in ("log", "store/transactions", "store/labels"):
        (folder / name).mkdir(parents=True)
    features = ", ".join(f"round(random() * {place + 1}, 4)::float" for place in range(FEATURES))
    with duckdb.connect() as con:
        con.execute("set preserve_insertion_order = false")
        con.execute(
            f"""create view made as select id,
            (timestamp '2026-03-01' + to_seconds(id * {DAYS * 86_400} / {lines}))::timestamp as "at"
            from range({lines}) as t(id)"""  # noqa: S608 - built from constants, as below
        )
        for number, first in enumerate(range(0, lines, SEGMENT)):
            path = folder / "log" / f"host-1.{1_700_000_000_000_000_000 + number}.jsonl"
            con.execute(
                f"""copy (select strftime("at", '%Y-%m-%dT%H:%M:%S.%f+00:00') as time,
                id, 'm' as model, '0123456789ab' as version, [{features}] as features, random() as score,
                (random() < 0.1)::int as class from made where id >= {first} and id < {first + SEGMENT})
                to '{path}' (format json)"""  # noqa: S608
            )
            # Make the file look old, because the monitor does not convert files that were written just now.
            os.utime(path, (0, 0))
        con.execute(f"copy made to '{folder}/store/transactions/a.parquet'")
        con.execute(
            f"""copy (select id, (random() < 0.1)::tinyint as y, "at" + interval 1 day as reported_at
            from made where id % 10 = 0) to '{folder}/store/labels/a.parquet'"""  # noqa: S608
        )


def main() -> None:
    """Write the log once, let both builds read it, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("base", help="the commit or tag to compare with")
    parser.add_argument("--lines", type=int, default=10_000_000)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bench-monitor-") as made,
        Git(ROOT).worktree(asked.base) as before,
    ):
        console.print(f"writing {asked.lines:,} predictions")
        make(Path(made), asked.lines)
        found = {}
        for name, source in (f"before, {asked.base}", before), ("now, and converts", ROOT), ("now", ROOT):
            environment = {**os.environ, "PYTHONPATH": str(source / "src")}
            printed = run(sys.executable, "-", made, str(FEATURES), input=READ, env=environment)
            found[name] = json.loads(printed.splitlines()[-1])
        table = pd.DataFrame(found).T
        table.loc["ratio"] = table.iloc[2] / table.iloc[0]
        report("monitor", table, found)


if __name__ == "__main__":
    start("bench-monitor", main)
