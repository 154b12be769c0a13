"""No fault of the prediction log prevents an answer."""

import errno
import io
import json
import os
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient
from tiny import KEY

from loop.runtime import app, booster, log
from loop.runtime.log import PredictionLog
from loop.runtime.model import Release

RELEASE = Release("card-fraud", KEY)


def log_row(kept, number):
    """Log one row with this id."""
    kept.write([number], np.ones((1, 1), np.float32), [0.5], [1])


def lines(folder):
    return [
        json.loads(text) for path in sorted(folder.glob("*.jsonl")) for text in path.read_text().splitlines()
    ]


def test_every_answered_row_is_a_line(source, tmp_path, monkeypatch):
    """After shutdown the process's file has one line per row, with the keys that the monitor reads."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "log"))
    with TestClient(app.create(source, booster.load)) as client:
        one = client.post("/predict", json={"features": [1, 0, 0], "id": "t1"}).json()
        client.post("/predict", json={"features": [[1, 0, 0], [0.5, 0, 0]]})
        client.post("/predict", json={"features": "refused"})
    assert [path.name for path in (tmp_path / "log").iterdir()] == [
        f"{socket.gethostname()}-{os.getpid()}.jsonl"
    ]
    first, _, last = lines(tmp_path / "log")
    assert first == {
        "time": first["time"],
        "id": "t1",
        "model": "card-fraud",
        "version": KEY,
        "features": [1.0, 0.0, 0.0],
        "score": one["score"],
        "class": one["class"],
    }
    assert first["time"].endswith("+00:00")
    assert (last["id"], last["features"]) == (None, [0.5, 0.0, 0.0])


def test_a_full_queue_drops_lines_and_counts_them(tmp_path, monkeypatch, caplog):
    """While the disk hangs, `write` does not wait and the queue does not grow; its lines are written later.

    One message says that lines are dropped, and one how many are lost if the server stops meanwhile.
    """
    hangs, goes_on, dropped = threading.Event(), threading.Event(), []
    appended = log._File.append
    other = PredictionLog(tmp_path / "other", RELEASE, dropped.append)
    log_row(other, 100)
    other.close()
    line = next((tmp_path / "other").iterdir()).stat().st_size

    def slow(self, content):
        hangs.set()
        goes_on.wait()
        return appended(self, content)

    monkeypatch.setattr(log._File, "append", slow)
    monkeypatch.setattr(log, "QUEUED", 10 * line)
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)
    log_row(kept, 100)
    hangs.wait()
    for number in range(101, 116):
        log_row(kept, number)
    assert len(dropped) == 5
    kept.close(0)
    assert [line.rpartition(".jsonl")[2] for line in told(caplog)] == [
        f": {10 * line} bytes wait in the queue, so new lines are dropped",
        ": the server stops after waiting 0 s; at least 10 lines are lost",
    ]
    goes_on.set()
    kept.close()
    assert [entry["id"] for entry in lines(tmp_path)] == list(range(100, 111))


def test_lines_are_counted_as_lost_while_others_are_still_written(tmp_path, monkeypatch, caplog):
    """The server stops with a message, and not with a traceback, if the disk works again just then."""
    hangs, goes_on = threading.Event(), threading.Event()
    monkeypatch.setattr(log._File, "append", lambda *_: (hangs.set(), goes_on.wait()))
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"))

    class Taken(bytearray):
        def count(self, what):
            kept._waiting.popleft()
            return super().count(what)

    log_row(kept, 0)
    hangs.wait()
    kept._waiting.extend([Taken(b"1\n"), Taken(b"2\n")])
    kept.close(0)
    goes_on.set()
    kept.close()
    assert told(caplog)[0].endswith("at least 2 lines are lost")


@pytest.mark.parametrize(
    ("rows", "width", "classes"), [(1, 4, 2), (1, 2_000, 2), (500, 2_000, 2), (500, 4, 200)]
)
def test_a_queue_has_an_end_in_bytes(tmp_path, monkeypatch, rows, width, classes):
    """While the disk hangs, the queue is limited for wide rows, long ids and many classes."""
    goes_on, dropped = threading.Event(), []
    monkeypatch.setattr(log._File, "append", lambda *_: goes_on.wait())
    monkeypatch.setattr(log, "QUEUED", 6_000_000)
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)

    def one(number):
        scores = [number / 7 + row for row in range(rows)]
        wide = [[float(number + n) for n in range(classes)] for _ in range(rows)] if classes > 2 else None
        ids = [f"{number}-{n}".ljust(128, "\N{SNOWMAN}") for n in range(rows)]
        kept.write(ids, np.full((rows, width), number, np.float32), scores, [1] * rows, wide)

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    number = 0
    while not dropped:
        one(number := number + 1)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    goes_on.set()
    kept.close()
    assert 1_000_000 < held < 12_000_000
    assert 0 < dropped[0] <= rows


def test_a_large_request_is_written_in_parts(tmp_path, monkeypatch):
    """No file of the log is longer than one should be by more than a part, and every row is a line."""
    monkeypatch.setattr(log, "BYTES", 100_000)
    monkeypatch.setattr(log, "AT_ONCE", 10_000)
    monkeypatch.setattr(log, "ROWS", 8)
    values = np.random.default_rng(0).random((2_000, 100), np.float32)
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"))
    kept.write(list(range(2_000)), values, [0.5] * 2_000, [1] * 2_000)
    kept.close()
    assert [entry["id"] for entry in lines(tmp_path)] == list(range(2_000))
    assert [entry["features"] for entry in lines(tmp_path)] == values.tolist()
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < 100_000 + 10_000 + 8 * 2_500


def test_a_full_disk_costs_lines_and_no_answer(source, tmp_path, monkeypatch):
    """On /dev/full every answer is given, and every line is counted as dropped."""
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path))
    (tmp_path / f"{socket.gethostname()}-{os.getpid()}.jsonl").symlink_to("/dev/full")
    with TestClient(app.create(source, booster.load)) as client:
        answers = [client.post("/predict", json={"features": [0, 0, n]}) for n in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    registry = client.app.predictor.metrics.registry
    of = {"model": "card-fraud", "version": KEY}
    assert registry.get_sample_value("model_prediction_log_dropped_total", of) == 3


def test_a_folder_that_cannot_be_made_costs_lines_and_no_start(source, tmp_path, monkeypatch, caplog):
    """If there is a file in the folder's place, the server starts, logs that at once, and answers."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREDICTION_LOG_DIR", str(tmp_path / "file" / "log"))
    with TestClient(app.create(source, booster.load)) as client:
        while not told(caplog):
            time.sleep(0.001)
        assert client.post("/predict", json={"features": [0, 0, 0]}).status_code == 200
    (line,) = told(caplog)
    assert line.startswith(f"prediction log: writing failed: {tmp_path}/file/log/")


def aged(folder, name, days, lines=2):
    """Make another process's log file, whose last write was `days` days ago."""
    (folder / name).write_text('{"id": null}\n' * lines)
    when = time.time() - days * log.DAY
    os.utime(folder / name, (when, when))


def test_the_log_is_kept_for_days(tmp_path, monkeypatch):
    """A long log is rotated without loss; any process's file that is older than `days` days is deleted."""
    monkeypatch.setattr(log, "BYTES", 300)
    monkeypatch.setattr(log, "AT_ONCE", 1)
    aged(tmp_path, "gone-7.1.jsonl", days=17)
    aged(tmp_path, "gone-7.jsonl", days=15)
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"), days=16)
    for number in range(100):
        log_row(kept, number)
    kept.close()
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("*.jsonl"))) > 30
    assert sorted(entry["id"] for entry in lines(tmp_path) if entry["id"] is not None) == list(range(100))
    assert not (tmp_path / "gone-7.1.jsonl").exists()
    assert (tmp_path / "gone-7.jsonl").exists()


def opening(monkeypatch, kind):
    """Make log files of this class when they are opened to be written."""
    method = Path.open

    def opened(path, mode="r", **how):
        return kind(path, mode) if mode == "ab" else method(path, mode, **how)

    monkeypatch.setattr(Path, "open", opened)


def full_with(monkeypatch, file):
    """Let the disk be full while this file exists: of what is written it takes only a part."""

    class Short(io.FileIO):
        def write(self, content):
            return super().write(content[:10] if file.exists() else content)

    opening(monkeypatch, Short)


@pytest.mark.parametrize(("name", "inside"), [("gone-7.jsonl", 20), ("gone-7.20.parquet", 1)])
def test_a_full_disk_costs_the_oldest_file(tmp_path, monkeypatch, name, inside):
    """It makes room for new lines, and its own are counted as dropped, also if it was converted."""
    aged(tmp_path, name, days=3, lines=inside)
    aged(tmp_path, "gone-8.jsonl", days=2, lines=1)
    full_with(monkeypatch, tmp_path / name)
    dropped = []
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)
    log_row(kept, 7)
    kept.close()
    assert dropped == [20]
    assert [entry["id"] for entry in lines(tmp_path)] == [None, 7]


def test_a_full_disk_does_not_cost_the_file_that_is_being_written(tmp_path, monkeypatch):
    """If there is no other file to delete, the new lines are dropped, and those before them stay."""
    full_with(monkeypatch, tmp_path / "full")
    dropped = []
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)
    log_row(kept, 1)
    while not lines(tmp_path):
        time.sleep(0.01)
    (tmp_path / "full").touch()
    log_row(kept, 2)
    kept.close()
    assert dropped == [1]
    assert [entry["id"] for entry in lines(tmp_path)] == [1]


def test_a_file_that_another_process_has_removed_is_begun_anew(tmp_path):
    """If a process's old file was deleted, its next lines go to a new file, and none is lost."""
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"))
    log_row(kept, 1)
    while not lines(tmp_path):
        time.sleep(0.01)
    (file,) = tmp_path.iterdir()
    file.unlink()
    log_row(kept, 2)
    kept.close()
    assert [entry["id"] for entry in lines(tmp_path)] == [2]


def refusing(monkeypatch, what, name, number=errno.EACCES):
    """Make this method of Path fail for files with this name."""
    method = getattr(Path, what)

    def refuse(path, *args, **kwargs):
        if path.name == name:
            raise OSError(number, os.strerror(number), str(path))
        return method(path, *args, **kwargs)

    monkeypatch.setattr(Path, what, refuse)


def told(caplog):
    return [record.getMessage() for record in caplog.records if record.name == log.__name__]


@pytest.mark.parametrize("what", ["unlink", "stat"])
def test_an_old_file_that_cannot_be_removed_stops_nothing(tmp_path, monkeypatch, caplog, what):
    """The lines are written, the other old files are deleted, and one message names the file that stays."""
    for name in ("a-1.jsonl", "b-1.jsonl", "c-1.jsonl"):
        aged(tmp_path, name, days=20)
    refusing(monkeypatch, what, "b-1.jsonl")
    monkeypatch.setattr(log, "BYTES", 1)  # one line per file
    monkeypatch.setattr(log, "AT_ONCE", 1)
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"))
    for number in range(5):
        log_row(kept, number)
    kept.close()
    monkeypatch.undo()
    assert sorted(entry["id"] for entry in lines(tmp_path) if entry["id"] is not None) == list(range(5))
    assert [path.name for path in tmp_path.glob("?-1.jsonl")] == ["b-1.jsonl"]
    assert told(caplog) == [
        f"prediction log: removing the oldest files failed: {tmp_path}/b-1.jsonl: Permission denied"
    ]


@pytest.mark.parametrize("what", ["unlink", "open"])
def test_a_full_disk_costs_the_oldest_file_that_can_be_removed(tmp_path, monkeypatch, caplog, what):
    """A file that cannot be deleted or read is reported and skipped."""
    aged(tmp_path, "gone-6.jsonl", days=4)
    aged(tmp_path, "gone-7.jsonl", days=3, lines=20)
    refusing(monkeypatch, what, "gone-6.jsonl")
    full_with(monkeypatch, tmp_path / "gone-7.jsonl")
    dropped = []
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)
    log_row(kept, 7)
    kept.close()
    monkeypatch.undo()
    assert dropped == [20]
    assert [entry["id"] for entry in lines(tmp_path)] == [None, None, 7]
    assert [line.split(": ")[1] for line in told(caplog)] == [
        "writing failed",
        "removing the oldest files failed",
    ]


def test_a_file_that_cannot_be_set_aside_grows(tmp_path, monkeypatch, caplog):
    """If a file cannot be rotated, it grows, and no line is lost."""
    monkeypatch.setattr(log, "BYTES", 1)
    monkeypatch.setattr(log, "AT_ONCE", 1)
    refusing(monkeypatch, "rename", f"{socket.gethostname()}-{os.getpid()}.jsonl")
    kept = PredictionLog(tmp_path, RELEASE, lambda _: pytest.fail("dropped"))
    for number in range(5):
        log_row(kept, number)
    kept.close()
    assert [entry["id"] for entry in lines(tmp_path)] == list(range(5))
    (line,) = told(caplog)
    assert line.startswith(f"prediction log: beginning a new file failed: {tmp_path}/")


@pytest.mark.parametrize("call", ["write", "tell", "close"])
def test_what_fails_is_told_once_a_minute(tmp_path, monkeypatch, caplog, call):
    """The message has file and reason; once the disk works again, new lines are written."""
    real, fails = getattr(io.FileIO, call), threading.Event()

    def failing(file, *rest):
        result = None if call == "write" and fails.is_set() else real(file, *rest)
        if fails.is_set():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return result

    opening(monkeypatch, type("Failing", (io.FileIO,), {call: failing}))
    monkeypatch.setattr(log, "AT_ONCE", 1)
    kept, number = PredictionLog(tmp_path, RELEASE, lambda _: None), 0

    def log_until(done):
        nonlocal number
        while not done():
            log_row(kept, number := number + 1)
            time.sleep(0.01)

    log_until(lambda: lines(tmp_path))
    fails.set()
    log_until(lambda: told(caplog))
    log_until(lambda begin=number: number == begin + 20)
    assert len(told(caplog)) == 1
    monkeypatch.setattr(log, "QUIET", 0)
    log_until(lambda: len(told(caplog)) > 1)
    fails.clear()
    log_until(lambda before=number: lines(tmp_path)[-1]["id"] > before)
    kept.close()
    [said] = {*told(caplog)}
    assert f"failed: {tmp_path}/{socket.gethostname()}-{os.getpid()}.jsonl: Stale file handle" in said


def test_lines_that_cannot_be_encoded_cost_nobody_elses(tmp_path, caplog):
    """Lines that cannot be encoded are dropped, counted and reported; other lines are written."""
    dropped = []
    kept = PredictionLog(tmp_path, RELEASE, dropped.append)
    log_row(kept, 1)
    kept.write([2], np.ones((1, 1), np.float32), [object()], [1])
    log_row(kept, 3)
    kept.close()
    assert [entry["id"] for entry in lines(tmp_path)] == [1, 3]
    assert dropped == [1]
    assert [line.partition(" failed: ")[0] for line in told(caplog)] == ["prediction log: encoding lines"]
