"""A record of a started program recognizes its process, and its errors help to find the fault."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from place import ClusterError, Place
from process import Record, record, since_boot, wait


@pytest.fixture
def mine() -> Record:
    """Return a record of this process."""
    return Record("tests", os.getpid(), since_boot(psutil.Process()), ["pytest"], {})


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(run=tmp_path / "run", registry=tmp_path / "registry")


def test_a_record_does_not_match_another_process_with_its_pid(mine: Record) -> None:
    """A process matches its record only if it was started then, not if it only has the record's pid."""
    assert mine.process.pid == os.getpid()
    assert not replace(mine, started=mine.started - 60).process


def test_a_program_still_runs_after_the_clock_was_corrected(
    mine: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A correction of the clock, as after a virtual machine's sleep, does not make the cluster seem ended."""
    boot = psutil.boot_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot + 3600)
    assert mine.process


def test_a_zombie_does_not_count_as_running(mine: Record) -> None:
    """A process that has ended, but whose parent has not waited for it yet, does not count as running."""
    child = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    started = since_boot(psutil.Process(child.pid))
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not replace(mine, pid=child.pid, started=started).process
    child.wait()


def test_the_error_of_an_ended_program_has_the_end_of_its_log(place: Place, mine: Record) -> None:
    """If a program ends before it is ready, the error contains the end of its log."""
    place.file("processes/etcd.json", vars(replace(mine, name="etcd", started=0)))
    place.folder("logs")
    place.log("etcd").write_text("first\nbind: address already in use\n")
    with pytest.raises(ClusterError, match=r"etcd ended before it was ready:\n.*\n.*already in use"):
        wait(place, "etcd", lambda: False)


def test_the_error_of_an_unknown_program_lists_the_known_ones(place: Place, mine: Record) -> None:
    """The error for an unknown program lists the known ones, so that a typing error is easy to fix."""
    place.file("processes/etcd.json", vars(replace(mine, name="etcd")))
    with pytest.raises(ClusterError, match="no program ectd was started; started: etcd"):
        record(place, "ectd")
