"""`make bench-loop` measures fairly, and counts only commands that have done their work."""

import json
import math
from pathlib import Path

import bench_loop
import numpy as np
import pandas as pd
import pytest
import shared
from bench_loop import Case, Sample, Side, compared, lines

from loop.core.errors import LoopError


def test_each_round_is_compared_with_itself(tmp_path: Path) -> None:
    """The sides run in turn, so a machine that slows down changes no ratio; a failure has no figure."""
    sides = tuple(Side(name, tmp_path, "") for name in ("before", "after"))
    order = []

    def slower(side: Side, number: int) -> Sample:
        order.append(side.name)
        return (1 + number) * (2 if side.name == "before" else 1), 3.0

    def broken(side: Side, number: int) -> Sample:
        if side.name == "after" and number:
            raise LoopError("it said no\nand why")
        return 1.0, 1.0

    cases = [Case("`gate`", "≤ 0.5", slower), Case("`status`", "≤ 0.5", broken)]
    table = lines({case.name: compared(case, sides, 3) for case in cases}).T
    assert order == ["before", "after", *["before", "after"], *["after", "before"], *["before", "after"]]
    assert [*table["`gate`"]] == [4, 2, "0.50 (0.50-0.50)", 3, 3, "1.00 (1.00-1.00)", "≤ 0.5"]
    assert [*table["`status`"]] == ["failed: after: it said no", *[""] * 5, "≤ 0.5"]


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo done; touch out; exit 3", "ended with 3"),
        ("touch out", "did not print 'done'"),
        ("echo done", "left no out"),
    ],
)
def test_a_command_that_has_not_done_its_work_is_not_timed(tmp_path: Path, script: str, why: str) -> None:
    """A command counts only if it has just done its work; files of an earlier run do not count."""
    side = Side("after", tmp_path, "")
    side.tree.mkdir()
    whole = bench_loop.command("sh -c 'echo done; touch out'", "done", "out")
    assert all(figure >= 0 for figure in whole(side, 0))
    with pytest.raises(LoopError, match=why):
        bench_loop.command(f"sh -c '{script}'", "done", "out")(side, 0)


def test_results_are_json_that_every_program_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing figure is null, as NaN is no JSON; where /proc is missing, the CPU just has no name."""
    monkeypatch.setattr(shared, "ROOT", tmp_path)
    monkeypatch.setattr(shared, "run", lambda *_, **__: "")
    table = pd.DataFrame({"ours": {"rows by .npy": 2.0}, "theirs": {"rows by .npy": math.nan}})
    results = {"machine": shared.machine(), "servers": table.to_dict(), "worst": np.float64(1)}
    shared.report("x", table, results, bench_loop.plot({"`gate`": {"failed": "after: it said no"}}))
    read = json.loads((tmp_path / "build/bench-x/x.json").read_text(), parse_constant=pytest.fail)
    assert read["servers"]["theirs"] == {"rows by .npy": None}
    assert (read["machine"]["cpu"], read["worst"]) == ("", 1)
    assert "| rows by .npy | 2 | - |" in (tmp_path / "build/bench-x/x.md").read_text()
