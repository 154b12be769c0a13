"""`make bench-fleet`: measures all models at once, through the gateway of the cluster of `make cluster`.

In a scratch clone, each trained model is packed, rehearsed, pushed to the cluster's registry and released to
dev, as CI would do it, and its overlay is applied. Then one open loop per model sends requests to the
gateway. Together they ask for `--rate` predictions per second, in the proportions of
`sla.requests_per_second`, with `--rows` rows in each request. The load generators and the cluster run on the
same cores. `./loop repro` must have trained the models.
"""

import argparse
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pandas as pd
import psutil
from bench_models import bodies, promised
from shared import ROOT, Cluster, clone, console, open_loop, report, run, start, wait

from loop.core import params, repository
from loop.core.git import Git
from loop.core.names import public
from loop.delivery import render

ENVIRONMENT = "dev"
MOST_FAILED, MOST_P99 = 0.0005, 100.0  # the accepted share of failed requests, and milliseconds


class Fleet:
    """A scratch clone whose models are released to the cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.cluster, self.clone = cluster, clone(folder, ROOT)
        self.hosts: dict[str, str] = {}  # {model: the host name by which the gateway routes to it}
        registry = cluster.facts["registry"]
        registries = folder / "registries.conf"
        registries.write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
        self.environment = {
            "LOOP_ENGINE": "buildah",
            "BUILDAH_ISOLATION": "chroot",
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "CONTAINERS_REGISTRIES_CONF": str(registries),
            "LOOP_BASE_IMAGE": run(ROOT / "tools" / "cluster" / "base", f"{registry}/bench").strip(),
        }
        shutil.copytree(ROOT / "data", self.clone / "data", dirs_exist_ok=True)
        shutil.copy(ROOT / "dvc.lock", self.clone)
        ours = repository.read(ROOT)
        repository.write(self.clone, repository.Repository(ours.name, ours.url, f"{registry}/bench"))
        self.git = Git(self.clone)
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "--message=Trained models")
        self.git.run("push", "--quiet", "origin", "main")

    def release(self, model: str) -> None:
        """Release a model to the cluster, and wait until the gateway sends requests to its pods."""
        name = public(model)
        for command in ("gate", "register", "bento", "rehearse", "image", "push-image"):
            self.loop(command, name)
        self.loop("release", name, f"--environment={ENVIRONMENT}")
        self.git.run("pull", "--quiet", "origin", "main")
        self.cluster.apply(render.build(self.clone / "kustomize" / "overlays" / ENVIRONMENT / name))
        space = f"--namespace={name}-{ENVIRONMENT}"
        self.cluster.kubectl("rollout", "status", "deployment/serving-stable", space, "--timeout=180s")
        path = "--output=jsonpath={.spec.hostnames[0]}"
        host = self.hosts[model] = self.cluster.kubectl("get", "httproute", "serving", space, path)
        url = f"{self.cluster.facts['gateway']}/health"
        health = partial(httpx.get, url, headers={"Host": host}, trust_env=False)
        wait(f"the gateway has a route to {name}", lambda: health().is_success, 60)

    def loop(self, *words: str) -> None:
        run(self.clone / "loop", *words, env=self.environment, cwd=self.clone)


def loads(fleet: Fleet, rates: dict[str, float], rows: int, seconds: int, scratch: Path) -> dict[str, Any]:
    """Send every model's requests at the same time, and return what each open loop measured.

    `rates` are requests per second, and `rows` the number of rows in a request.
    """
    gateway, files = urlsplit(fleet.cluster.facts["gateway"]), {}
    for model in rates:
        (folder := scratch / f"{public(model)}-{rows}").mkdir(exist_ok=True)
        files[model] = bodies(model, folder, rows)

    def load(model: str) -> dict[str, Any]:
        to = {"address": gateway.hostname, "host": fleet.hosts[model]}
        return dict(open_loop(gateway.port or 80, "/predict", files[model], rates[model], seconds, **to))

    with ThreadPoolExecutor(len(rates)) as pool:
        return dict(zip(rates, pool.map(load, rates), strict=True))


def main() -> int:
    """Release and measure every model; return 1 if at some rate too many requests failed or were slow."""
    parser = argparse.ArgumentParser("bench-fleet", description=__doc__)
    add, asked = parser.add_argument, "predictions per second of all models, one after another (3500)"
    add("--rate", type=float, nargs="+", default=[3500], help=asked)
    add("--rows", type=int, nargs="+", default=[1, 4], help="rows of a request (1 and 4)")
    add("--seconds", type=int, default=60, help="seconds of each measurement (60)")
    given = parser.parse_args()
    shares = pd.Series({name: promised(name) for name in params.read(ROOT)})
    cluster, rows, good = Cluster(), [], True
    with tempfile.TemporaryDirectory(prefix="bench-fleet-", dir="/var/tmp") as made:
        fleet = Fleet(Path(made), cluster)
        cluster.apply(render.build(fleet.clone / "kustomize" / "platform"))
        for model in shares.index:
            console.print(f"[dim]releasing {public(model)}")
            fleet.release(model)
        for rate, together in product(given.rate, given.rows):
            rates = (shares / shares.sum() * rate / together).to_dict()
            psutil.cpu_percent()  # begins a new measurement
            found = loads(fleet, rates, together, given.seconds, Path(made))
            busy = psutil.cpu_percent()
            failed = sum(of["failed"] for of in found.values()) / (rate / together * given.seconds)
            slowest = max(of["p99, ms"] for of in found.values())
            good &= failed <= MOST_FAILED and slowest <= MOST_P99
            for model, of in found.items():
                rows.append({"model": public(model), "all models": rate, "rows each": together, **of})
            said = f"{rate:,.0f}/s, {together} rows a request: {failed:.3%} failed"
            console.print(f"{said}, slowest p99 {slowest:,.1f} ms, cores busy to {busy:.0f}%")
    report("fleet", pd.DataFrame(rows).set_index("model").drop(columns="statuses"), rows)
    return 0 if good else 1


if __name__ == "__main__":
    start("bench-fleet", main)
