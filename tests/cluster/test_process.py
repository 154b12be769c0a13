"""Records of processes: whose pid is whose."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from place import ClusterError, Place, write_json
from process import BOOT, Record, record, started_at, wait


@pytest.fixture
def mine() -> Record:
    """A record of this very process."""
    return Record(
        "tests", os.getpid(), started_at(os.getpid()) or 0, BOOT.read_text().strip(), ["pytest"], {}
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(run=tmp_path / "run", registry=tmp_path / "registry")


def test_a_record_knows_its_process_from_a_later_one_of_the_same_pid(mine: Record) -> None:
    """Pid alone is not enough: start time and boot must be the same."""
    assert mine.alive
    assert not replace(mine, started=mine.started + 1).alive
    assert not replace(mine, boot="another").alive


def test_a_zombie_does_not_run(mine: Record) -> None:
    """A process that ended and was not waited for is gone."""
    child = subprocess.Popen(["true"], stdout=subprocess.PIPE)
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started_at(child.pid) is None
    child.wait()


def test_waiting_for_a_program_that_ended_tells_its_last_words(place: Place, mine: Record) -> None:
    """The error carries the end of the log."""
    write_json(place.records / "etcd.json", vars(replace(mine, name="etcd", started=0)))
    place.folder("logs")
    place.log("etcd").write_text("first\nbind: address already in use\n")
    with pytest.raises(ClusterError, match=r"etcd ended before it was ready:\n.*\n.*already in use"):
        wait(place, "etcd", lambda: False)


def test_an_unknown_program_is_told_with_those_that_are_known(place: Place, mine: Record) -> None:
    """The error for an unknown program lists the known ones, so that a typing error is easy to fix."""
    write_json(place.records / "etcd.json", vars(replace(mine, name="etcd")))
    with pytest.raises(ClusterError, match="no program ectd was started; started: etcd"):
        record(place, "ectd")
