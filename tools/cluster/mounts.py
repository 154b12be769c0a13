"""Makes a mount namespace for the cluster's programs, so that their mounts do not appear on this host.

containerd, CNI and the kubelet always write to some fixed folders. In the namespace these folders are empty
filesystems in memory, so that this host's own files are not changed and no files remain.
"""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from place import NAME, Place, output

FIXED = [Path("/run/containerd"), Path("/var/lib/cni"), Path("/var/lib/kubelet"), Path("/var/log/containers")]
HIDE = 'for folder; do mount -t tmpfs "$0" "$folder" || exit 1; done'


def make(place: Place) -> None:
    """Mount the state folder's `fast` in memory, and create the mount namespace that `place.mounts` names."""
    for folder in FIXED:
        folder.mkdir(parents=True, exist_ok=True)
    output("mount", "-t", "tmpfs", "-o", "size=1g,mode=755", NAME, str(place.folder("fast")))
    output("mount", "--make-private", str(place.fast))  # a named namespace must lie on a private mount
    place.mounts.touch()
    command = ["unshare", f"--mount={place.mounts}", "--", "sh", "-c", HIDE, NAME, *map(str, FIXED)]
    # Since Linux 6.18 every CPU counts the namespaces that it creates, and a namespace can be given a name
    # only from a namespace with a lower number. If our own mount namespace is new, some CPUs would give the
    # cluster's namespace a lower number than ours, so one CPU after the other is tried.
    *others, last = (("taskset", "--cpu-list", str(cpu), *command) for cpu in sorted(os.sched_getaffinity(0)))
    if not any(subprocess.run(each, capture_output=True, check=False).returncode == 0 for each in others):
        output(*last)


def remove(place: Place) -> None:
    """Unmount everything below the state folder. The kernel removes the namespace with its last process."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        mount = line.split()[1].replace("\\040", " ")
        if Path(mount).is_relative_to(place.run):
            output("umount", "--lazy", mount)
    for folder in FIXED:
        with suppress(OSError):  # the folder is not empty, so another program uses it
            folder.rmdir()
