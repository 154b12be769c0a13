"""One Kubernetes node on this machine, with Argo CD, a gateway and Prometheus: `make cluster`.

Everything runs as processes in a network namespace and a cgroup of its own; docs/cluster.md tells more.
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
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
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
    """Something that is started, and what must be ready before."""

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
    """Hold the one lock of this machine's cluster; it goes with the process that holds it."""
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
    """Stop where no cluster can run."""
    if platform.system() != "Linux":
        raise ClusterError(
            "the local cluster needs Linux; any other cluster is used by KUBECONFIG: docs/cluster.md"
        )
    if os.geteuid():
        raise ClusterError(
            "the local cluster needs root (network namespace, cgroups, mounts): sudo make cluster"
        )


def clean(place: Place) -> None:
    """Take down whatever there is of a cluster, however far it came; nothing is fine too."""
    cgroup.end()
    mounts.remove(place)
    network.remove()
    cgroup.remove()
    shutil.rmtree(place.run, ignore_errors=True)
    LINK.unlink(missing_ok=True)


def prepare(place: Place, built: Path) -> None:
    """The state folder, both namespaces, the cgroup: what every part needs."""
    place.run.mkdir(parents=True, exist_ok=True)
    LINK.symlink_to(place.run)
    place.programs.symlink_to(built)
    places.write(place.run / "webhook-secret", secrets.token_hex(20))
    mounts.make(place)
    network.make()
    cgroup.enter()


def begin() -> None:
    """What each thread does first: enter the cluster's network."""
    network.enter()


def start_all(place: Place) -> None:
    """Start the parts, each as soon as what it needs is ready; say how long each took.

    Raises:
        ClusterError: the first part that failed; those that are being started are awaited.
    """
    order = TopologicalSorter({name: part.needs for name, part in PARTS.items()})
    order.prepare()
    running: dict[Future[None], tuple[str, float]] = {}
    begun = time.monotonic()
    with ThreadPoolExecutor(len(PARTS), initializer=begin) as pool, SCREEN.status("starting") as status:
        pool.submit(network.tune).result()
        while order.is_active():
            for name in order.get_ready():
                running[pool.submit(PARTS[name].start, place)] = (name, time.monotonic())
            status.update("starting " + ", ".join(name for name, _ in running.values()))
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name, since = running.pop(future)
                future.result()
                now = time.monotonic()
                SCREEN.print(f"{now - begun:6.1f} s  {name} [dim]({now - since:.1f} s)")
                order.done(name)


def runs(place: Place) -> bool:
    """Whether a cluster is up, whole and answering."""
    if not place.ready.is_file() or not NETWORK.exists():
        return False
    down = [record.name for record in process.records(place) if not record.alive]
    if down:
        SCREEN.print(f"not running: {', '.join(down)}")
    return not down and process.answers(f"https://{places.NODE}:{places.API_PORT}/readyz")


def facts(place: Place) -> dict[str, object]:
    """What others need to use the cluster."""
    return {**place.facts(), "hooks": argocd.hooks()}


def up(_: argparse.Namespace) -> None:
    """Start the cluster; print its facts as the last line."""
    check()
    programs.install()
    built = programs.build()
    place = places.place()
    with lock(0, "another `up` or `down` is at work: wait for it, or end it with `make cluster-down`"):
        if runs(place):
            SCREEN.print("the cluster runs already")
        else:
            clean(place)
            place = places.place()  # what was cleaned may have been another cache's
            prepare(place, built)
            start_all(place)
            places.write_json(place.ready, facts(place))
    print(json.dumps(facts(place)))


def down(_: argparse.Namespace) -> None:
    """End the cluster, half-started ones too; an `up` that is at work is ended with it."""
    check()
    cgroup.end()  # before the lock: the `up` that holds it is in there
    with lock(60, "the lock is held by another `down`, or by an `up` that is still cleaning up"):
        clean(places.place())


def status(options: argparse.Namespace) -> None:
    """Say what runs."""
    place = places.place()
    whole = runs(place)
    if options.json and whole:
        print(json.dumps(facts(place)))
    elif not options.json:
        for one in process.records(place):
            print(f"{one.name:24}{one.pid:>8} {'runs' if one.alive else 'ended'}  {place.log(one.name)}")
    if not whole:
        raise ClusterError("no cluster is up, or not all of it: make cluster")


def restart(options: argparse.Namespace) -> None:
    """Start one program again, as a kubelet would."""
    check()
    place = places.place()
    process.record(place, options.name)
    cgroup.enter()
    process.restart(place, options.name)


def nodes(options: argparse.Namespace) -> None:
    """Have so many fake nodes of a pool."""
    check()
    place = places.place()
    cgroup.enter()
    network.enter()
    kwok.scale(
        place, {pool: int(count) for pool, _, count in (word.partition("=") for word in options.pools)}
    )


def build(_: argparse.Namespace) -> None:
    """Build the cluster's programs if the cache lacks them, and print their folder."""
    print(programs.build())


def volumes(options: argparse.Namespace) -> None:
    """Have so many volumes in the pool."""
    check()
    system.start_storage(places.place(), options.count)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("tools/cluster", description=__doc__)
    commands = parser.add_subparsers(required=True)
    made = {}
    for run in (up, down, status, restart, nodes, volumes, build):
        made[run] = commands.add_parser(run.__name__, help=run.__doc__)
        made[run].set_defaults(run=run)
    made[status].add_argument("--json", action="store_true", help="one line for programs")
    made[restart].add_argument("name", help="as `status` lists them")
    made[nodes].add_argument("pools", nargs="+", metavar="POOL=COUNT", help="cpu=3 gpu=2; 0 removes them")
    made[volumes].add_argument("count", type=int)
    return parser.parse_args()


def main() -> int:
    """Run one command; 2 where something is missing or wrong, and what has started stays to be looked at."""
    options = arguments()
    try:
        options.run(options)
    except ClusterError as error:
        print(f"tools/cluster: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("tools/cluster: interrupted; what has started is ended by `make cluster-down`", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
