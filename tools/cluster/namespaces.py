"""Makes the namespaces in which the cluster's programs run: one of the network and one of mounts.

The network's default route ends at the node's own bridge, so programs in the cluster reach no address beyond
the host's end of the veth pair. containerd, CNI and the kubelet always write to some fixed folders. In the
mount namespace these folders are empty filesystems in memory, so that this host's own files are not changed
and no files remain.
"""

import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil
from place import HOST, INNER, NAME, NETWORK, NODE, NODE_NAME, ClusterError, Place, output

FIXED = [Path("/run/containerd"), Path("/var/lib/cni"), Path("/var/lib/kubelet"), Path("/var/log/containers")]
HIDE = 'for folder; do mount -t tmpfs "$0" "$folder" || exit 1; done'
VETH = "loop-host"
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/bridge/bridge-nf-call-iptables": "1",  # so that nftables sees traffic between pods
}


def make_mounts(place: Place) -> None:
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


def make_network() -> None:
    """Create the network namespace, the node's bridge in it, and the veth pair to the host."""
    output("ip", "netns", "add", NAME)
    inside = ("-n", NAME)
    output("ip", *inside, "link", "set", "lo", "up")
    output("ip", *inside, "link", "add", NODE_NAME, "type", "bridge")
    output("ip", *inside, "addr", "add", f"{NODE}/24", "dev", NODE_NAME)
    output("ip", *inside, "link", "set", NODE_NAME, "up")
    output("ip", *inside, "route", "add", "default", "dev", NODE_NAME)
    output("ip", "link", "add", VETH, "type", "veth", "peer", "name", "host", "netns", NAME)
    output("ip", *inside, "addr", "add", f"{INNER}/30", "dev", "host")
    output("ip", *inside, "link", "set", "host", "up")
    output("ip", "addr", "add", f"{HOST}/30", "dev", VETH)
    output("ip", "link", "set", VETH, "up")
    output("ip", "route", "add", f"{NODE}/32", "via", INNER)


def enter() -> None:
    """Move this thread, and the processes that it starts later, into the cluster's network.

    Raises ClusterError if there is none.
    """
    if not NETWORK.exists():
        raise ClusterError("no cluster is running; start one with `make cluster`")
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns exists only since Python 3.12
    with NETWORK.open() as namespace:
        if libc.setns(namespace.fileno(), 0):
            raise ClusterError(f"cannot enter {NETWORK}: {os.strerror(ctypes.get_errno())}")


def tune() -> None:
    """Set the kernel's network options for a node; inside the namespace, which has its own options."""
    bridge = Path("/proc/sys/net/bridge")
    if not bridge.is_dir():
        subprocess.run(["modprobe", "br_netfilter"], capture_output=True, check=False)
    for name, value in SYSCTLS.items():
        try:
            (Path("/proc/sys") / name).write_text(value)
        except OSError as error:
            raise ClusterError(f"cannot set {name} to {value}: {error}") from error


def remove(place: Place) -> None:
    """Unmount everything below the state folder, and remove the network with its bridge, rules and veth pair.

    The kernel removes the mount namespace with its last process.
    """
    for mount in reversed(psutil.disk_partitions(all=True)):
        if Path(mount.mountpoint).is_relative_to(place.run):
            output("umount", "--lazy", mount.mountpoint)
    for folder in FIXED:
        with suppress(OSError):  # the folder is not empty, so another program uses it
            folder.rmdir()
    with suppress(ClusterError):  # the link is deleted first, as a namespace outlives its last process
        output("ip", "link", "del", VETH)
    if NETWORK.exists():
        output("ip", "netns", "del", NAME)
