"""`make cluster`: runs one Kubernetes node on this machine, with Argo CD, a gateway and Prometheus.

All programs run as processes in their own network namespace and cgroup. docs/cluster.md has the details.
"""

import fcntl
import json
import os
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import argocd
import cgroup
import click
import control
import gateway
import kwok
import namespaces
import node
import pki
import place as places
import policies
import process
import programs
import prometheus
import system
from place import LINK, NETWORK, ClusterError, Place
from rich.console import Console

LOCK = Path("/run/loop-cluster.lock")
SCREEN = Console(stderr=True)


# {part: the function that starts it, and the parts that must be ready before}
PARTS: dict[str, tuple[Callable[[Place], None], tuple[str, ...]]] = {
    "keys": (pki.start, ()),
    "etcd": (control.start_etcd, ()),
    "registry": (node.start_registry, ()),
    "containerd": (node.start_containerd, ()),
    "apiserver": (control.start_apiserver, ("keys", "etcd")),
    "controllers": (control.start_controllers, ("apiserver",)),
    "node": (node.start, ("apiserver", "containerd", "registry")),
    "dns": (system.start_dns, ("apiserver",)),
    "storage": (system.start_storage, ("apiserver",)),
    "metrics": (system.start_metrics, ("node",)),
    "policies": (policies.start, ("apiserver",)),
    "prometheus": (prometheus.start, ("apiserver",)),
    "gateway": (gateway.start, ("prometheus",)),
    "argocd": (argocd.start, ("controllers",)),
}


@contextmanager
def lock() -> Iterator[None]:
    """Hold the lock of this machine's cluster; the kernel releases it if this process ends."""
    with LOCK.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            SCREEN.print("waiting for another `up` or `down` to end; `make cluster-down` ends an `up`")
            fcntl.flock(file, fcntl.LOCK_EX)
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
    namespaces.remove(place)
    cgroup.remove()
    shutil.rmtree(place.run, ignore_errors=True)
    LINK.unlink(missing_ok=True)


def start_all(place: Place) -> None:
    """Start each part once those that it needs are ready; if one fails, the others are waited for first."""
    begun, futures = time.monotonic(), {}

    def start(name: str) -> None:
        run, needs = PARTS[name]
        for need in needs:
            futures[need].result()
        since = time.monotonic()
        run(place)
        now = time.monotonic()
        SCREEN.print(f"{now - begun:6.1f} s  {name} [dim]({now - since:.1f} s)")
        left = [name for name, future in futures.items() if not future.done()]
        status.update(f"starting {', '.join(left)}")

    # Every thread that starts a part enters the cluster's network first
    threads = ThreadPoolExecutor(len(PARTS), initializer=namespaces.enter)
    with threads as pool, SCREEN.status("starting") as status:
        pool.submit(namespaces.tune).result()
        for name in PARTS:  # a part is listed after the parts that it needs
            futures[name] = pool.submit(start, name)
        for future in futures.values():
            future.result()


def runs(place: Place) -> bool:
    """Return whether a complete cluster is running and answers."""
    if not place.ready.is_file() or not NETWORK.exists():
        return False
    down = [record.name for record in process.records(place) if not record.process]
    if down:
        SCREEN.print(f"not running: {', '.join(down)}")
    return not down and process.holds(f"https://{places.NODE}:{places.API_PORT}/readyz")


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
        "hooks": argocd.HOOKS,
    }


@click.group(help=__doc__)
def cli() -> None:
    """Run one command. After an error, programs that have started keep running, for you to inspect."""


@cli.command()
def up() -> None:
    """Start the cluster unless it runs, and print its addresses and paths as the last line."""
    check()
    built = programs.build()
    places.pinned()  # builds them now, because programs in the cluster's network cannot download anything
    with lock():
        place = places.place()  # an `up` that we waited for may have used another cache
        if runs(place):
            SCREEN.print("the cluster is already running")
        else:
            clean(place)
            place = places.place()  # the removed cluster may have used another cache, too
            place.run.mkdir(mode=0o700, parents=True, exist_ok=True)  # it contains secrets
            LINK.symlink_to(place.run)
            place.programs.symlink_to(built)
            place.file("webhook-secret", secrets.token_hex(20))
            namespaces.make_mounts(place)
            namespaces.make_network()
            cgroup.enter()
            try:
                start_all(place)
            except KeyboardInterrupt:
                raise ClusterError("interrupted: `make cluster-down` stops what has started") from None
            place.file(place.ready.name, facts(place))
    print(json.dumps(facts(place)))


@cli.command()
def down() -> None:
    """Stop the cluster and remove it, together with an `up` that is still running."""
    check()
    cgroup.end()  # end all processes first, including a running `up`, which holds the lock
    with lock():
        clean(places.place())


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def status(*, as_json: bool) -> None:
    """Print which programs of the cluster run; an error unless the cluster is complete."""
    check()
    place = places.place()
    whole = runs(place)
    if as_json and whole:
        print(json.dumps(facts(place)))
    elif not as_json:
        for one in process.records(place):
            print(f"{one.name:24}{one.pid:>8} {'runs' if one.process else 'ended'}  {place.log(one.name)}")
    if not whole:
        raise ClusterError("no complete cluster is running; start one with `make cluster`")


@cli.command()
@click.argument("name")
def restart(name: str) -> None:
    """Start one program of the cluster again, as a kubelet would restart a container.

    NAME is the program's name as `status` prints it.
    """
    check()
    place = places.place()
    process.record(place, name)  # raises ClusterError before anything is changed
    cgroup.enter()
    process.restart(place, name)


@cli.command()
@click.argument("pool", type=click.Choice([*kwok.POOLS]))
@click.argument("count", type=click.IntRange(min=0))
def nodes(pool: str, count: int) -> None:
    """Add or remove fake nodes so that a pool has the given number."""
    check()
    namespaces.enter()
    cgroup.enter()
    kwok.scale(places.place(), pool, count)


@cli.command()
def build() -> None:
    """Build the cluster's programs if the cache lacks them, and print their folder."""
    print(programs.build())


@cli.command()
@click.argument("count", type=int)
def volumes(count: int) -> None:
    """Make sure that the cluster has the given number of volumes."""
    check()
    namespaces.enter()
    system.start_storage(places.place(), count)


if __name__ == "__main__":
    cli(prog_name="tools/cluster")
