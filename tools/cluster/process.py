"""Starts programs in the background inside the cluster's namespaces, records them, and stops them.

A record has a program's process id, and how to start the program again. Processes that a program leaves
behind are found by `down`, because all of them are in the cgroup that `up` entered first.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from place import NETWORK, SYSTEM_PATH, ClusterError, Place, write_json

BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Record:
    """A started program. Process id, start time and boot id together identify a process uniquely."""

    name: str
    pid: int
    started: int
    boot: str
    argv: list[str]
    env: dict[str, str]

    @property
    def alive(self) -> bool:
        return self.boot == BOOT.read_text().strip() and started_at(self.pid) == self.started


def started_at(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot; None if it has ended or is a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field of /proc/<pid>/stat is the program's name in brackets, which may contain spaces, so the
    # fields are counted after its closing bracket.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def environment(place: Place, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of the cluster's programs, without the caller's variables such as proxies."""
    return {
        "PATH": f"{place.programs}:{SYSTEM_PATH}",
        "HOME": str(place.folder("home")),
        "TMPDIR": str(place.folder("tmp")),
        "KUBECONFIG": str(place.kubeconfig),
        **(extra or {}),
    }


def start(
    place: Place,
    name: str,
    argv: list[str | Path],
    env: dict[str, str] | None = None,
    ready: str | Callable[[], object] | None = None,
) -> None:
    """Start a program in the cluster's namespaces and in the state folder; its output goes to its log.

    If `ready` is given, wait for it as `wait` does.
    """
    command = [str(word) for word in argv]
    place.folder("logs")
    with place.log(name).open("ab") as log:
        child = subprocess.Popen(
            ["nsenter", f"--net={NETWORK}", f"--mount={place.mounts}", f"--wd={place.run}", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(place, env),
            start_new_session=True,
        )
    record = Record(name, child.pid, started_at(child.pid) or 0, BOOT.read_text().strip(), command, env or {})
    write_json(place.records / f"{name}.json", asdict(record))
    if ready:
        wait(place, name, ready)


def records(place: Place) -> list[Record]:
    """Return the records of all started programs, in the order of their start."""
    found = [Record(**json.loads(path.read_text())) for path in place.records.glob("*.json")]
    return sorted(found, key=lambda record: (record.started, record.pid))


def record(place: Place, name: str) -> Record:
    """Return the record of one program; ClusterError if it was not started."""
    path = place.records / f"{name}.json"
    if not path.is_file():
        known = ", ".join(record.name for record in records(place)) or "none"
        raise ClusterError(f"no program {name} was started; started: {known}")
    return Record(**json.loads(path.read_text()))


def restart(place: Place, name: str) -> None:
    """Restart a program with its original command.

    If it still runs, it is stopped by SIGTERM, and by SIGKILL if it has not ended five seconds later.
    """
    one = record(place, name)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + 5
        with suppress(ProcessLookupError):
            if one.alive:
                os.kill(one.pid, sign)
        while one.alive and time.monotonic() < end:
            time.sleep(0.05)
    start(place, name, list(one.argv), one.env)


def tail(place: Place, name: str) -> str:
    """Return the last lines of a program's log."""
    path = place.log(name)
    text = path.read_text(errors="replace").splitlines() if path.is_file() else []
    return "\n".join(f"  {name}: {line[:300]}" for line in text[-15:])


def wait(place: Place, name: str, ready: str | Callable[[], object], seconds: float = 60) -> None:
    """Wait until a URL answers with 2xx, or a function returns something that is true.

    A ClusterError of the function means "not yet". Raises ClusterError with the end of the log of `name` if
    that program ends, or after `seconds`.
    """
    end = time.monotonic() + seconds
    while not (answers(ready) if isinstance(ready, str) else _holds(ready)):
        if not record(place, name).alive:
            raise ClusterError(f"{name} ended before it was ready:\n{tail(place, name)}")
        if time.monotonic() > end:
            raise ClusterError(f"{name} is not ready after {seconds:.0f} s:\n{tail(place, name)}")
        time.sleep(0.1)


def _holds(ready: Callable[[], object]) -> bool:
    with suppress(ClusterError):
        return bool(ready())
    return False


def answers(url: str) -> bool:
    """Return whether a URL answers with 2xx. Callers run in the cluster's network: loopback works."""
    with suppress(httpx.HTTPError):
        return httpx.get(url, timeout=2, trust_env=False, verify=False).is_success  # noqa: S501
    return False
