"""A mount namespace for the cluster's programs, so that this host sees none of their mounts.

containerd, CNI and the kubelet write into fixed folders whatever they are told; in here those are empty
filesystems in memory, so that nothing of this host's is touched and nothing is left there.
"""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from place import NAME, ClusterError, Place

FIXED = [Path("/run/containerd"), Path("/var/lib/cni"), Path("/var/lib/kubelet"), Path("/var/log/containers")]
HIDE = 'for folder; do mount -t tmpfs "$0" "$folder" || exit 1; done'


def make(place: Place) -> None:
    """Mount the state folder's `fast`, and make the namespace that `place.mounts` names."""
    for folder in FIXED:
        folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", "size=1g,mode=755", NAME, str(place.folder("fast")))
    _run("mount", "--make-private", str(place.fast))  # what a namespace's name must lie on
    place.mounts.touch()
    command = ["unshare", f"--mount={place.mounts}", "--", "sh", "-c", HIDE, NAME, *map(str, FIXED)]
    # Since Linux 6.18 each CPU numbers the namespaces that it makes, and a namespace can be named only from
    # one with a lower number. In a mount namespace that is itself new, not every CPU gives a higher one.
    *others, last = (("taskset", "--cpu-list", str(cpu), *command) for cpu in sorted(os.sched_getaffinity(0)))
    if not any(_ran(*each) for each in others):
        _run(*last)


def _ran(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"{' '.join(words)}: {done.stderr.strip()}")


def remove(place: Place) -> None:
    """Unmount all that is mounted under the state folder; the namespace goes with its last process."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        mount = line.split()[1].replace("\\040", " ")
        if Path(mount).is_relative_to(place.run):
            _run("umount", "--lazy", mount)
    for folder in FIXED:
        with suppress(OSError):  # somebody else's, with something in it
            folder.rmdir()
