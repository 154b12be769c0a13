"""Makes the cluster's network namespace, and the connection between it and this host.

The default route ends at the node's own bridge, so programs in the cluster reach no address beyond the host's
end of the veth pair.
"""

import ctypes
import os
import subprocess
from contextlib import suppress
from pathlib import Path

from place import HOST, INNER, NAME, NETWORK, NODE, NODE_NAME, ClusterError, output

VETH = "loop-host"
SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/ipv6/conf/all/disable_ipv6": "1",
    "net/ipv6/conf/default/disable_ipv6": "1",
    "net/bridge/bridge-nf-call-iptables": "1",  # so that nftables sees traffic between pods
}


def make() -> None:
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
    """Move this thread, and the processes that it starts later, into the cluster's network."""
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


def remove() -> None:
    """Remove the network namespace, and with it the bridge, its nftables rules and the veth pair."""
    with suppress(ClusterError):  # the link is deleted first, as a namespace outlives its last process
        output("ip", "link", "del", VETH)
    if NETWORK.exists():
        output("ip", "netns", "del", NAME)
