"""The whole loop works with everything on servers: MLflow on PostgreSQL and S3, DVC on S3."""

import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import product
from pathlib import Path
from typing import Any

import mlflow
import pytest
from circle import production
from front import Front
from services import Services
from standin import Clone
from trained import MODEL, change, outside, run

from loop_demo.world import World

PACKAGE = "card_fraud"


def test_the_loop_runs_on_servers(clone: Path, services: Services, client: Any, tmp_path: Path) -> None:
    """A model is pushed, registered, fetched on a second machine, monitored from S3, and retrained."""
    services.loop(clone, "push", MODEL)
    first = services.loop(clone, "register", MODEL)
    run("git", "clone", "--quiet", str(tmp_path / "origin.git"), "other", cwd=tmp_path)
    other = tmp_path / "other"
    (other / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    assert "Running stage" not in services.loop(other, "repro", MODEL, "--check")
    assert services.loop(other, "register", MODEL).splitlines()[-1] == first.splitlines()[-1]

    world = World(clone, PACKAGE, tmp_path / "store", calm_days=0, drift_days=35, after_days=0)
    production(Clone(clone), "0123456789ab", world, tmp_path / "log")
    for folder in ("store", "log"):
        for file in (tmp_path / folder).rglob("*.*"):
            services.s3.upload_file(str(file), "production", str(file.relative_to(tmp_path)))
    change(clone, monitor__store="s3://production/store")
    assert "drift" in services.loop(clone, "monitor", MODEL, "--log", "s3://production/log", code=6)
    until = world.retrain_at.isoformat()
    services.loop(clone, "retrain", MODEL, "--until", until, "--reason", "drift")
    services.loop(clone, "repro", MODEL)
    services.loop(clone, "push", MODEL)
    second = services.loop(clone, "register", MODEL)
    assert second.splitlines()[-1] != first.splitlines()[-1]
    assert mlflow.pyfunc.load_model(f"models:/{MODEL}@challenger").metadata.signature


@pytest.mark.parametrize(
    "kill", list(enumerate(product(("register", "push"), ("postgresql", "s3", "mlflow"))))
)
def test_a_command_survives_a_killed_server(
    clone: Path, services: Services, client: Any, kill: tuple[int, tuple[str, str]]
) -> None:
    """A command whose server is killed succeeds or says why; run again, it leaves one run and one version."""
    (number, (command, server)), name = kill, clone.parent.name
    change(clone, train__subsample=0.9, train__seed=number)  # makes a model that is not registered yet
    services.loop(clone, "repro", MODEL)

    def begun() -> bool:
        if command == "push":
            return "Contents" in services.s3.list_objects_v2(Bucket="dvc", Prefix=f"{name}/")
        found = client.get_experiment_by_name(name)
        return bool(found and client.search_runs([found.experiment_id]))

    code, said = killed_when(begun, clone, services, command, server)
    assert "Traceback" not in said
    assert code in {0, 2} or command == "push", said
    services.wait()
    services.loop(clone, command, MODEL)
    services.loop(clone, "register", MODEL)
    experiment = client.get_experiment_by_name(name).experiment_id
    (only,) = [run for run in client.search_runs([experiment]) if run.info.status != "RUNNING"]
    (version,) = client.search_model_versions(f"run_id = '{only.info.run_id}'")
    assert version.tags["model_md5"] == only.data.tags["model_md5"]
    if command == "push":
        status = run(sys.executable, "-m", "dvc", "status", "--cloud", cwd=clone, **services.environment)
        assert "in sync" in status


class Dying(Front):
    """A proxy of the S3 server that breaks every connection on which the source is read."""

    dead = True
    read = 0

    def own(self, request: BaseHTTPRequestHandler) -> tuple[int, str] | None:
        if self.dead and request.command == "GET" and "rows.parquet" in request.path:
            self.read += 1
            raise ConnectionAbortedError
        return None

    def handle_error(self, request: Any, client_address: Any) -> None: ...


def test_a_training_names_a_source_that_breaks_off(clone: Path, services: Services) -> None:
    """If a source cannot be read to its end, the training fails and names it; the next training succeeds."""
    rows = f"{clone.parent.name}/rows.parquet"
    services.s3.upload_file(str(clone / "data" / PACKAGE / "raw.parquet"), "production", rows)
    services.loop(clone, "pin", MODEL, "--source", f"s3://production/{rows}")
    with Dying(services.environment["AWS_ENDPOINT_URL"]) as front:
        reached = {"AWS_ENDPOINT_URL": front.url}
        said = services.loop(clone, "repro", MODEL, code=2, **reached)
        assert front.read
        assert "Traceback" not in said
        assert f"s3://production/{rows}: cannot be read" in said
        front.dead = False
        services.loop(clone, "repro", MODEL, **reached)
    assert "up to date" in run(sys.executable, "-m", "dvc", "status", cwd=clone)


def killed_when(
    begun: Callable[[], bool], clone: Path, services: Services, command: str, server: str
) -> tuple[int, str]:
    """Run a command, kill a server after the command has begun to write, and return exit code and output."""
    with subprocess.Popen(
        ["./loop", command, MODEL],
        cwd=clone,
        env=outside(**services.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        while process.poll() is None and not begun():
            time.sleep(0.02)
        services.kill(server)
        said, _ = process.communicate()
    return process.returncode, said
