"""Starts programs in the background inside the cluster's namespaces, records them, and stops them.

A record has a program's process id, and how to start the program again. Processes that a program leaves
behind are found by `down`, because all of them are in the cgroup that `up` entered first.
"""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import psutil
from place import NETWORK, SYSTEM_PATH, ClusterError, Place

APART = 2  # seconds by which a process's start may seem to change, because the kernel rounds its own


@dataclass(frozen=True)
class Record:
    """A started program. Its start, in seconds since boot, tells it from a later program with its pid."""

    name: str
    pid: int
    started: float
    argv: list[str]
    env: dict[str, str]

    @property
    def process(self) -> psutil.Process | None:
        """The program's process; None if it has ended, also if nobody has waited for it yet."""
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.pid)
            if abs(since_boot(found) - self.started) < APART and found.status() != psutil.STATUS_ZOMBIE:
                return found
        return None


def since_boot(process: psutil.Process) -> float:
    """Return the seconds from boot to a process's start, which no correction of the clock changes."""
    return process.create_time() - psutil.boot_time()


def environment(place: Place, extra: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment of the cluster's programs, without the caller's variables such as proxies.

    By its PATH, those that were built for the cluster come before the machine's own.
    """
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
    started = since_boot(psutil.Process(child.pid))
    place.file(f"processes/{name}.json", asdict(Record(name, child.pid, started, command, env or {})))
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
        with suppress(psutil.NoSuchProcess):
            if found := one.process:
                found.send_signal(sign)
        while one.process and time.monotonic() < end:
            time.sleep(0.05)
    start(place, name, [*one.argv], one.env)


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
    while not holds(ready):
        if not record(place, name).process:
            raise ClusterError(f"{name} ended before it was ready:\n{tail(place, name)}")
        if time.monotonic() > end:
            raise ClusterError(f"{name} is not ready after {seconds:.0f} s:\n{tail(place, name)}")
        time.sleep(0.1)


def holds(ready: str | Callable[[], object]) -> bool:
    """Return whether a URL answers with 2xx, or a function returns something true and no ClusterError.

    Callers run in the cluster's network, so a URL may be on the loopback.
    """
    with suppress(ClusterError, httpx.HTTPError):
        if isinstance(ready, str):
            return httpx.get(ready, timeout=2, trust_env=False, verify=False).is_success  # noqa: S501
        return bool(ready())
    return False
