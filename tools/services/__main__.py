"""`make services`: runs PostgreSQL, an S3 server, and an MLflow server that uses both, on this machine.

The command runs in the foreground until Ctrl-C. A service that dies is started again, as in a cluster. The
services' data stay in FOLDER. After `. FOLDER/env`, commands in a shell use the services.
"""

import fcntl
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import click
import httpx

from loop.core.files import locked, read_json, whole, write_json, write_text
from loop.packaging.process import HOST, free_port

ROOT = Path(__file__).resolve().parents[2]
BUCKETS = ("dvc", "mlflow", "production")
USER = "loop"  # of PostgreSQL, and the access key of S3
PATIENCE = 120  # seconds that a service may take to answer
FOLDER = click.Path(file_okay=False, path_type=Path, resolve_path=True)
PLACE = f"/var/tmp/loop-services-{os.getuid()}"  # noqa: S108 - PostgreSQL's user cannot read /root


@dataclass
class Service:
    """A service's process, which is started again when it has died."""

    name: str
    command: tuple[str, ...]
    folder: Path
    answers: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    user: tuple[str, ...] = ()  # as options of setpriv
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it answers; SystemExit names its log if it does not."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                # The kernel kills the service with this process, unless the service changes its user later.
                ("setpriv", *self.user, "--pdeathsig=KILL", *self.command),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        write_text(self.folder / f"{self.name}.pid", f"{self.process.pid}\n")
        end = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.name} does not answer; see {self.folder / self.name}.log")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the service's process and its children."""
        if not self.process:
            return
        for which in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(self.process.pid, which)
                self.process.wait(10)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), 1):
        return True
    return False


def _healthy(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    return False


def postgresql(folder: Path, port: int, secret: str) -> Service:
    """Return the PostgreSQL service; its data folder is made first if it is missing."""
    data = folder / "postgresql"
    # Debian does not put these programs on PATH
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    place = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    found = {name: shutil.which(name, path=place) or name for name in ("initdb", "postgres")}
    # PostgreSQL refuses to run as root, so root starts it as the user postgres.
    user = ("--reuid=postgres", "--regid=postgres", "--init-groups") if os.geteuid() == 0 else ()
    if not data.is_dir():
        with whole(data) as aside:
            aside.parent.chmod(0o755)
            aside.mkdir()
            (aside.parent / "password").write_text(secret)
            if user:
                shutil.chown(aside, "postgres", "postgres")
                shutil.chown(aside.parent / "password", "postgres")
            made = (found["initdb"], "--pgdata", aside, f"--username={USER}", "--auth=scram-sha-256")
            command = ("setpriv", *user, *made, f"--pwfile={aside.parent}/password")
            subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", check=True)
    command = (found["postgres"], "-D", str(data), "-h", HOST, "-p", str(port), "-k", "")
    return Service("postgresql", command, folder, lambda: _listens(port), user=user)


def s3(folder: Path, port: int, secret: str) -> Service:
    """Return the S3 service: Versity's S3 gateway, which stores objects in a folder."""
    build = (ROOT / "tools/programs", ROOT / "tools/services")
    programs = subprocess.run(build, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    # A folder in objects/ is a bucket
    for name in ("metadata", *(f"objects/{bucket}" for bucket in BUCKETS)):
        (folder / "s3" / name).mkdir(parents=True, exist_ok=True)
    command = (f"{programs}/versitygw", "--quiet", "--port", f"{HOST}:{port}", "posix")
    command += ("--sidecar", f"{folder}/s3/metadata", f"{folder}/s3/objects")
    keys = {"ROOT_ACCESS_KEY": USER, "ROOT_SECRET_KEY": secret}
    return Service("s3", command, folder, lambda: _listens(port), keys)


def mlflow(folder: Path, port: int, database: str, reached: dict[str, str]) -> Service:
    """Return the MLflow service, which stores runs in the database and artifacts in S3."""
    environment = reached | {
        "MLFLOW_BACKEND_STORE_URI": database,  # it has a password, which `ps` would show of an option
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Otherwise MLflow starts eight more processes for GenAI jobs
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    command = (sys.executable, "-m", "mlflow", "server", "--workers=2", "--artifacts-destination=s3://mlflow")
    command += (f"--host={HOST}", f"--port={port}")
    return Service("mlflow", command, folder, lambda: _healthy(f"http://{HOST}:{port}"), environment)


@click.command("make services", help=__doc__)
@click.option("--folder", type=FOLDER, default=PLACE, show_default=True, help="Folder for the data.")
def main(folder: Path) -> None:
    """Start the services, print how to use them, and restart any that dies."""
    os.umask(0o077)  # some of the files contain secrets
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for ends in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ends, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, fcntl.LOCK_NB))
        except BlockingIOError:
            fix = f"`. {folder}/env`, or name another --folder"
            raise SystemExit(f"services run in {folder} already; {fix}") from None
        settings = folder / "settings.json"
        if not settings.is_file():
            ports = {name: free_port() for name in ("postgresql", "s3", "mlflow")}
            write_json(settings, {"secret": secrets.token_hex(16), "ports": ports})
        secret, ports = (read_json(settings)[key] for key in ("secret", "ports"))
        storage = {
            "AWS_ENDPOINT_URL": f"http://{HOST}:{ports['s3']}",
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        database = f"postgresql://{USER}:{secret}@{HOST}:{ports['postgresql']}/postgres"
        services = (
            postgresql(folder, ports["postgresql"], secret),
            s3(folder, ports["s3"], secret),
            mlflow(folder, ports["mlflow"], database, storage),
        )
        for service in services:
            click.echo(f"starting {service.name}", err=True)
            stack.callback(service.stop)
            service.start()
        environment = {"MLFLOW_TRACKING_URI": f"http://{HOST}:{ports['mlflow']}", **storage}
        exported = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        write_text(folder / "env", "\n".join(exported) + "\n")
        urls = f"MLflow: {environment['MLFLOW_TRACKING_URI']}  S3: {storage['AWS_ENDPOINT_URL']}"
        click.echo(f"{urls}  buckets: {', '.join(BUCKETS)}", err=True)
        click.echo(f". {folder}/env")
        while True:
            time.sleep(0.2)
            for service in services:
                if service.process and service.process.poll() is not None:
                    click.echo(f"{service.name} died; starting it again", err=True)
                    service.stop()  # ends the children that the dead process left
                    service.start()


if __name__ == "__main__":
    main()
