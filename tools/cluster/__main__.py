"""`make cluster`: runs one Kubernetes node on this machine, with Argo CD, a gateway and Prometheus.

All programs run as processes in their own network namespace and cgroup. docs/cluster.md has the details.
"""

import argparse
import fcntl
import json
import os
import platform
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import argocd
import cgroup
import control
import gateway
import kwok
import mounts
import network
import node
import pki
import place as places
import policies
import process
import programs
import prometheus
import registry
import system
from place import LINK, NETWORK, ClusterError, Place
from rich.console import Console

LOCK = Path("/run/loop-cluster.lock")
SCREEN = Console(stderr=True)


@dataclass(frozen=True)
class Part:
    """A part of the cluster: the function that starts it, and the parts that must be ready before."""

    start: Callable[[Place], None]
    needs: tuple[str, ...] = ()


PARTS = {
    "keys": Part(pki.start),
    "etcd": Part(control.start_etcd),
    "registry": Part(registry.start),
    "containerd": Part(node.start_containerd),
    "apiserver": Part(control.start_apiserver, ("keys", "etcd")),
    "controllers": Part(control.start_controllers, ("apiserver",)),
    "node": Part(node.start, ("apiserver", "containerd")),
    "dns": Part(system.start_dns, ("apiserver",)),
    "storage": Part(system.start_storage, ("apiserver",)),
    "metrics": Part(system.start_metrics, ("node",)),
    "policies": Part(policies.start, ("apiserver",)),
    "prometheus": Part(prometheus.start, ("apiserver",)),
    "gateway": Part(gateway.start, ("prometheus",)),
    "argocd": Part(argocd.start, ("controllers",)),
}


@contextmanager
def lock(seconds: float, busy: str) -> Iterator[None]:
    """Hold the lock of this machine's cluster; the kernel releases it if this process ends."""
    end = time.monotonic() + seconds
    with LOCK.open("w") as file:
        while True:
            with suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            if time.monotonic() > end:
                raise ClusterError(busy)
            time.sleep(0.1)
        yield


def check() -> None:
    """Raise ClusterError if this machine cannot run the cluster."""
    if platform.system() != "Linux":
        other = "to use another cluster, set KUBECONFIG (docs/cluster.md)"
        raise ClusterError(f"the local cluster needs Linux; {other}")
    if os.geteuid():
        why = "network namespace, cgroups, mounts"
        raise ClusterError(f"the local cluster needs root ({why}): sudo make cluster")


def clean(place: Place) -> None:
    """Remove a cluster completely, even one that was started only partly; does nothing if there is none."""
    cgroup.end()
    mounts.remove(place)
    network.remove()
    cgroup.remove()
    shutil.rmtree(place.run, ignore_errors=True)
    LINK.unlink(missing_ok=True)


def prepare(place: Place, built: Path) -> None:
    """Make the things that every part of the cluster needs: state folder, namespaces and cgroup."""
    place.run.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to(place.run)
    place.programs.symlink_to(built)
    places.write(place.run / "webhook-secret", secrets.token_hex(20))
    mounts.make(place)
    network.make()
    cgroup.enter()


def start_all(place: Place) -> None:
    """Start each part once those that it needs are ready; if one fails, the others are waited for first."""
    begun, futures = time.monotonic(), {}

    def start(name: str) -> None:
        for need in PARTS[name].needs:
            futures[need].result()
        since = time.monotonic()
        PARTS[name].start(place)
        now = time.monotonic()
        SCREEN.print(f"{now - begun:6.1f} s  {name} [dim]({now - since:.1f} s)")
        left = [name for name, future in futures.items() if not future.done()]
        status.update(f"starting {', '.join(left)}")

    # Every thread that starts a part enters the cluster's network first
    threads = ThreadPoolExecutor(len(PARTS), initializer=network.enter)
    with threads as pool, SCREEN.status("starting") as status:
        pool.submit(network.tune).result()
        for name in PARTS:  # a part is listed after the parts that it needs
            futures[name] = pool.submit(start, name)
        for future in futures.values():
            future.result()


def runs(place: Place) -> bool:
    """Return whether a complete cluster is running and answers."""
    if not place.ready.is_file() or not NETWORK.exists():
        return False
    down = [record.name for record in process.records(place) if not record.alive]
    if down:
        SCREEN.print(f"not running: {', '.join(down)}")
    return not down and process.answers(f"https://{places.NODE}:{places.API_PORT}/readyz")


def facts(place: Place) -> dict[str, object]:
    """Return the addresses and paths with which other programs use the cluster."""
    return {
        "kubeconfig": str(place.kubeconfig),
        "gateway": f"http://{places.NODE}:{places.GATEWAY_PORT}",
        "prometheus": f"http://{prometheus.PROMETHEUS}",
        "alertmanager": f"http://{prometheus.ALERTMANAGER}",
        "argocd": f"http://{places.NODE}:{places.ARGOCD_PORT}",
        "registry": places.REGISTRY,
        "host": places.HOST,
        "webhook_secret": place.webhook_secret,
        "hooks": argocd.hooks(),
    }


def up(_: argparse.Namespace) -> None:
    """Start the cluster unless it runs, and print its addresses and paths as the last line."""
    check()
    programs.install()
    built = programs.build()
    places.pinned()  # builds them now, because programs in the cluster's network cannot download anything
    place = places.place()
    with lock(0, "another `up` or `down` is running: wait for it, or end it with `make cluster-down`"):
        if runs(place):
            SCREEN.print("the cluster is already running")
        else:
            clean(place)
            # Look up the paths again, because the removed cluster may have used another cache
            place = places.place()
            prepare(place, built)
            start_all(place)
            places.write_json(place.ready, facts(place))
    print(json.dumps(facts(place)))


def down(_: argparse.Namespace) -> None:
    """Stop the cluster and remove it, together with an `up` that is still running."""
    check()
    cgroup.end()  # end all processes first, including a running `up`, which holds the lock
    with lock(60, "the lock is held by another `down`, or by an `up` that is still cleaning up"):
        clean(places.place())


def status(options: argparse.Namespace) -> None:
    """Print which programs of the cluster run; ClusterError unless the cluster is complete."""
    place = places.place()
    whole = runs(place)
    if options.json and whole:
        print(json.dumps(facts(place)))
    elif not options.json:
        for one in process.records(place):
            print(f"{one.name:24}{one.pid:>8} {'runs' if one.alive else 'ended'}  {place.log(one.name)}")
    if not whole:
        raise ClusterError("no complete cluster is running; start one with `make cluster`")


def restart(options: argparse.Namespace) -> None:
    """Start one program of the cluster again, as a kubelet would restart a container."""
    check()
    place = places.place()
    process.record(place, options.name)
    cgroup.enter()
    process.restart(place, options.name)


def nodes(options: argparse.Namespace) -> None:
    """Add or remove fake nodes so that each named pool has the given number."""
    check()
    place = places.place()
    cgroup.enter()
    network.enter()
    pools = dict(word.split("=", 1) for word in options.pools)
    kwok.scale(place, {pool: int(count) for pool, count in pools.items()})


def build(_: argparse.Namespace) -> None:
    """Build the cluster's programs if the cache lacks them, and print their folder."""
    print(programs.build())


def volumes(options: argparse.Namespace) -> None:
    """Make sure that the cluster has the given number of volumes."""
    check()
    system.start_storage(places.place(), options.count)


def arguments() -> argparse.Namespace:
    """Parse the command line of tools/cluster."""
    parser = argparse.ArgumentParser("tools/cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    made = {}
    for run in (up, down, status, restart, nodes, volumes, build):
        made[run] = commands.add_parser(run.__name__, help=run.__doc__)
        made[run].set_defaults(run=run)
    made[status].add_argument("--json", action="store_true", help="print one line of JSON")
    made[restart].add_argument("name", help="a program's name, as `status` prints it")
    made[nodes].add_argument("pools", nargs="+", metavar="POOL=COUNT", help="cpu=3 gpu=2; 0 removes them")
    made[volumes].add_argument("count", type=int)
    return parser.parse_args()


def main() -> int:
    """Run one command and return its exit code, 2 for an error.

    After an error, programs that have started keep running, so that they can be inspected.
    """
    options = arguments()
    try:
        options.run(options)
    except ClusterError as error:
        print(f"tools/cluster: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        fix = "stop the programs that have started with `make cluster-down`"
        print(f"tools/cluster: interrupted; {fix}", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
