"""The cgroup that contains every process of the cluster, pods included, so that `down` finds them all.

`up` enters the cgroup before it starts any program, so every program starts inside it, even if `up` is killed
a moment later. The code supports cgroups v2, v1, and v1 together with an empty v2.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
from place import NAME, ClusterError


def mounts() -> list[tuple[str, Path]]:
    """Return the type and path of each mounted cgroup hierarchy."""
    found = psutil.disk_partitions(all=True)
    return [(each.fstype, Path(each.mountpoint)) for each in found if each.fstype in ("cgroup", "cgroup2")]


def enter() -> None:
    """Create the cluster's cgroup in every hierarchy, and move this process into it."""
    found = mounts()
    if not found:
        raise ClusterError("no cgroups are mounted at /sys/fs/cgroup: a kubelet needs them")
    for _, mount in found:
        (mount / NAME / "node").mkdir(parents=True, exist_ok=True)
        delegate(mount)
        delegate(mount / NAME)
        # In cgroups v1 these two files are empty at first, and no process may enter before they are set.
        for name in ("cpuset.cpus", "cpuset.mems"):
            for folder in (mount / NAME, mount / NAME / "node"):
                if (mount / name).is_file():
                    (folder / name).write_text((mount / name).read_text())
    entered = [mount for kind, mount in found if kind == "cgroup2"] or [found[0][1]]
    (entered[0] / NAME / "node" / "cgroup.procs").write_text(str(os.getpid()))


def delegate(folder: Path) -> None:
    """Let the child cgroups of a v2 cgroup use all its controllers; v1 needs nothing."""
    controllers = folder / "cgroup.controllers"
    for name in controllers.read_text().split() if controllers.is_file() else ():
        # A controller may be unavailable on this machine; the kubelet reports it if it needs that controller
        with suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{name}")


def processes() -> set[int]:
    """Return the ids of all processes in the cluster's cgroup and below, except this process."""
    pids: set[int] = set()
    for folder in _folders():
        with suppress(OSError):  # the cgroup may have been removed meanwhile
            pids.update(int(pid) for pid in (folder / "cgroup.procs").read_text().split())
    return pids - {os.getpid()}


def end(seconds: float = 5) -> None:
    """End every process by SIGTERM, after `seconds` by SIGKILL; ClusterError if some run ten more seconds."""
    for sign, patience in ((signal.SIGTERM, seconds), (signal.SIGKILL, 10.0)):
        stop = time.monotonic() + patience
        while (left := processes()) and time.monotonic() < stop:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, sign)
            time.sleep(0.2)
    if left := processes():
        raise ClusterError(f"these processes of the cluster cannot be killed: {sorted(left)}")


def remove(seconds: float = 5) -> None:
    """Remove the empty cgroups, the innermost first; each stays busy for a moment after its processes."""
    stop = time.monotonic() + seconds
    for folder in _folders():
        while folder.is_dir():
            with suppress(OSError):
                folder.rmdir()
                break
            if time.monotonic() > stop:
                raise ClusterError(f"cannot remove the cgroup {folder}: it still contains processes")
            time.sleep(0.05)


def _folders() -> Iterator[Path]:
    """Yield the cluster's cgroup and the cgroups below it, the innermost first."""
    for _, mount in mounts():
        # Unlike glob, os.walk ignores folders that vanish
        for folder, _, _ in os.walk(mount / NAME, topdown=False):
            yield Path(folder)
