"""Log files that servers have closed are converted to Parquet once, and each line counts once."""

import json
import os
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pandas as pd
import pytest

from loop.core.models import Roles
from loop.monitoring import log, segments
from loop.runtime import log as servers

DAY = datetime(2026, 3, 2)  # noqa: DTZ001 — naive UTC, as stored
NOBODY = 65534


def line(number: int) -> str:
    values = {"id": number, "model": "m", "version": "v", "features": [float(number), None], "score": 0.5}
    return json.dumps({"time": f"{DAY.isoformat()}+00:00", **values, "class": 1}) + "\n"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Return a log with two closed files, one of which has a broken line, and an open one."""
    names = ("host-1.1700000000000000001.jsonl", "host-1.1700000000000000002.jsonl", "host-1.jsonl")
    for number, name in enumerate(names):
        text = "".join(line(10 * number + one) for one in range(5))
        (tmp_path / name).write_text(text + ('{"time": \n' if number == 1 else ""))
        os.utime(tmp_path / name, (1_700_000_000 + number, 1_700_000_000 + number))
    return tmp_path


def found(folder: Path) -> tuple[int, int, list[float]]:
    window = log.read(str(folder), "m", ["a", "b"], Roles(id="id", label="y"), store=None, until=None, days=7)
    return window.logged, window.broken, sorted(window.rows["a"])


EXPECTED = (15, 1, [float(10 * tens + one) for tens in range(3) for one in range(5)])


def test_what_was_set_aside_is_converted_once(folder) -> None:
    """The second read finds the same in Parquet; a file keeps its time, by which servers delete it."""
    assert found(folder) == EXPECTED
    names = sorted(path.name for path in folder.iterdir())
    parquet = ["host-1.1700000000000000001.5.parquet", "host-1.1700000000000000002.6.parquet"]
    assert names == [*parquet, "host-1.jsonl"]
    assert [(folder / name).stat().st_mtime for name in parquet] == [1_700_000_000, 1_700_000_001]
    written = [(folder / name).stat().st_ino for name in parquet]
    assert found(folder) == EXPECTED
    assert [(folder / name).stat().st_ino for name in parquet] == written


@pytest.mark.parametrize("place", ["rename", "unlink"])
def test_killed_half_way_it_loses_nothing_and_counts_nothing_twice(folder, monkeypatch, place) -> None:
    """After a kill before or after the rename, each line still counts once, and leftovers are deleted."""

    class Killed(BaseException): ...

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Path, place, killed)
        found(folder)
    assert found(folder) == EXPECTED
    left = [path for path in folder.iterdir() if path.suffix == segments.ASIDE]
    assert len(list(folder.iterdir())) - len(left) == 3
    for path in left:
        os.utime(path, (0, 0))
    assert found(folder) == EXPECTED
    assert sorted(path.suffix for path in folder.iterdir()) == [".jsonl", ".parquet", ".parquet"]


def test_a_file_that_has_just_been_set_aside_waits(folder) -> None:
    """A file that was just closed is read, but converted later, as a file server may show its end late."""
    (folder / "host-2.1700000000000000009.jsonl").write_text(line(99))
    assert found(folder)[0] == 16
    assert (folder / "host-2.1700000000000000009.jsonl").is_file()


def test_a_folder_that_may_only_be_read_is_only_read(folder) -> None:
    """In a read-only folder, as on a read-only volume, all lines are read, and no file changes."""
    found(folder)  # imports modules that NOBODY cannot read
    with TemporaryDirectory() as name:
        closed = Path(name)
        (closed / "host-1.1700000000000000001.jsonl").write_text(line(1) + line(2))
        before = sorted(closed.iterdir())
        closed.chmod(0o555)
        root = os.geteuid() == 0
        if root:  # root may write to every folder
            os.seteuid(NOBODY)
        try:
            assert found(closed)[:2] == (2, 0)
        finally:
            if root:
                os.seteuid(0)
            closed.chmod(0o755)
        assert sorted(closed.iterdir()) == before


def test_a_file_that_goes_while_it_is_read_is_not_broken(folder, monkeypatch) -> None:
    """If another monitor converts a file, or a server deletes it, during a read, no line is lost."""
    convert, closed, times = segments._convert, segments._convert_closed, []

    def raced(con: duckdb.DuckDBPyConnection, files: list[str], to: Path) -> int:
        if not times:
            times.append(files)
            closed(con, folder)  # the other monitor
        return convert(con, files, to)

    monkeypatch.setattr(segments, "_convert_closed", lambda *_: None)
    monkeypatch.setattr(segments, "_convert", raced)
    assert found(folder) == EXPECTED
    assert len(times[0]) == 3


def test_a_file_that_is_converted_after_it_was_read_counts_once(folder, monkeypatch) -> None:
    """Two files count once if another monitor converts one before it is read, and one afterwards."""
    convert, closed, later = segments._convert, segments._convert_closed, folder / f"host-1.{10**18}.jsonl"
    (folder / "host-1.1700000000000000002.jsonl").unlink()
    (folder / "host-1.jsonl").rename(later)
    os.utime(later)

    def raced(con: duckdb.DuckDBPyConnection, files: list[str], to: Path) -> int:
        monkeypatch.setattr(segments, "_convert", convert)
        closed(con, folder)  # the other monitor, which leaves a file that was just closed
        cut = convert(con, files, to)
        os.utime(later, (0, 0))
        closed(con, folder)
        return cut

    monkeypatch.setattr(segments, "_convert_closed", lambda *_: None)
    monkeypatch.setattr(segments, "_convert", raced)
    assert found(folder)[:2] == (10, 0)
    assert [path.suffix for path in folder.iterdir()] == [".parquet"] * 2


def test_a_full_disk_takes_the_oldest_segment_and_counts_its_lines(folder, monkeypatch) -> None:
    """A server that deletes a converted file for space knows from its name how many lines it had."""
    found(folder)
    file = servers._File(folder / "host-2.jsonl", 1e9, servers.Trouble())
    assert [file.make_room(), file.make_room()] == [5, 6]
    assert [path.name for path in folder.iterdir()] == ["host-1.jsonl"]


def test_the_text_of_an_id_stays(folder) -> None:
    """A converted file has each id as it was written, beside its number."""
    path = folder / "host-3.1700000000000000003.jsonl"
    path.write_text(line(1).replace('"id": 1', '"id": "0017"'))
    os.utime(path, (1_700_000_000, 1_700_000_000))
    found(folder)
    [path] = folder.glob("host-3.*.parquet")
    assert pd.read_parquet(path)[["id", "whole"]].to_numpy().tolist() == [["0017", 17]]
