"""One cgroup holds every process of the cluster, pods included, so that `down` finds them all.

`up` enters it before it starts anything: whatever it starts is born inside, even when `up` is killed the
moment after. Both generations of cgroups are known: v2, v1, and v1 beside an empty v2.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from place import NAME, ClusterError


def mounts(table: str) -> list[tuple[str, Path]]:
    """Where cgroup hierarchies are mounted, from /proc/mounts: (type, path)."""
    rows = [line.split() for line in table.splitlines()]
    return [(row[2], Path(row[1])) for row in rows if row[2] in ("cgroup", "cgroup2")]


def _here() -> list[tuple[str, Path]]:
    return mounts(Path("/proc/mounts").read_text())


def enter() -> None:
    """Make the cluster's cgroup in every hierarchy and move this process into it."""
    found = _here()
    if not found:
        raise ClusterError("no cgroups are mounted at /sys/fs/cgroup: a kubelet needs them")
    for _, mount in found:
        (mount / NAME / "node").mkdir(parents=True, exist_ok=True)
        delegate(mount)
        delegate(mount / NAME)
        for name in ("cpuset.cpus", "cpuset.mems"):  # v1: empty at birth, and nothing may enter until set
            for folder in (mount / NAME, mount / NAME / "node"):
                if (mount / name).is_file():
                    (folder / name).write_text((mount / name).read_text())
    entered = [mount for kind, mount in found if kind == "cgroup2"] or [found[0][1]]
    (entered[0] / NAME / "node" / "cgroup.procs").write_text(str(os.getpid()))


def delegate(folder: Path) -> None:
    """Have the cgroups below a v2 one limit what it may limit itself; v1 knows no such thing."""
    controllers = folder / "cgroup.controllers"
    for name in controllers.read_text().split() if controllers.is_file() else ():
        with suppress(OSError):  # one that this machine keeps to itself; the kubelet says if it needs it
            (folder / "cgroup.subtree_control").write_text(f"+{name}")


def processes() -> set[int]:
    """Every process in the cluster's cgroup and below, but this one."""
    pids: set[int] = set()
    for folder in _folders():
        with suppress(OSError):  # gone meanwhile
            pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return pids - {os.getpid()}


def end(seconds: float = 5) -> None:
    """End every process of the cluster: asked first, killed when not gone within `seconds`.

    Raises:
        ClusterError: some don't die within ten seconds more.
    """
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        stop = time.monotonic() + patience
        while (left := processes()) and time.monotonic() < stop:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(0.2)
    if left := processes():
        raise ClusterError(f"these processes of the cluster don't die: {sorted(left)}")


def remove(seconds: float = 5) -> None:
    """Remove the emptied cgroups, the innermost first; one is busy for a moment after its last process."""
    stop = time.monotonic() + seconds
    for folder in _folders():
        while folder.is_dir():
            with suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > stop:
                raise ClusterError(f"cannot remove the cgroup {folder}: something is still in it")
            time.sleep(0.05)


def _folders() -> Iterator[Path]:
    """The cluster's cgroup and those below it, the innermost first. Their pods' may go away meanwhile."""
    for _, mount in _here():
        for folder, _, _ in os.walk(mount / NAME, topdown=False):  # unlike glob, it passes over what has gone
            yield Path(folder)
