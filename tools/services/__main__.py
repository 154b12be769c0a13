"""`make services`: runs PostgreSQL, an S3 server, and an MLflow server that uses both, on this machine.

The command runs in the foreground until Ctrl-C. A service that dies is started again, as in a cluster. The
services' data stay in FOLDER. After `. FOLDER/env`, commands in a shell use the services.
"""

import argparse
import fcntl
import json
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

import httpx
from rich.console import Console

from loop.core.files import locked, whole, write_json, write_text
from loop.packaging.process import free_port

ROOT = Path(__file__).resolve().parents[2]
BUCKETS = ("dvc", "mlflow", "production")
PATIENCE = 120  # seconds that a service may take to answer
console = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Settings:
    """The services' ports, keys and passwords, which stay the same after a restart."""

    folder: Path
    key: str
    secret: str
    ports: dict[str, int]

    @classmethod
    def of(cls, folder: Path) -> "Settings":
        """Read the settings of an earlier start, or make new ones."""
        path = folder / "settings.json"
        if not path.is_file():
            ports = {name: free_port() for name in ("postgresql", "s3", "mlflow")}
            write_json(path, {"key": "loop", "secret": secrets.token_hex(16), "ports": ports})
        return cls(folder, **json.loads(path.read_text()))

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables with which the project's commands use the services."""
        return {
            "MLFLOW_TRACKING_URI": self.url("mlflow"),
            "AWS_ENDPOINT_URL": self.url("s3"),
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
        }


@dataclass
class Service:
    """A service's process, which is started again when it has died."""

    name: str
    command: tuple[str, ...]
    folder: Path
    answers: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the service and wait until it answers; SystemExit names its log if it does not."""
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                # The kernel kills the service when this process ends, even if this process is killed.
                ("setpriv", "--pdeathsig=KILL", *self.command),
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
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def postgresql(settings: Settings) -> Service:
    """Return the PostgreSQL service; its data folder is made first if it is missing."""
    folder, data, port = settings.folder, settings.folder / "postgresql", settings.ports["postgresql"]
    # Debian does not put these programs on PATH
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    place = os.pathsep.join([*map(str, programs), os.environ["PATH"]])
    found = {name: shutil.which(name, path=place) or name for name in ("initdb", "postgres")}
    # PostgreSQL refuses to run as root, so root starts it as the user postgres.
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups") if os.geteuid() == 0 else ()
    if not data.is_dir():
        with whole(data) as aside:
            aside.parent.chmod(0o755)
            aside.mkdir()
            (aside.parent / "password").write_text(settings.secret)
            if user:
                shutil.chown(aside, "postgres", "postgres")
                shutil.chown(aside.parent / "password", "postgres")
            made = (*user, found["initdb"], "--pgdata", str(aside), "--username=loop", "--auth=scram-sha-256")
            command = (*made, f"--pwfile={aside.parent}/password")
            subprocess.run(command, stdout=subprocess.DEVNULL, cwd="/", check=True)
    listen = ("-h", "127.0.0.1", "-p", str(port), "-k", "")
    command = (*user, found["postgres"], "-D", str(data), *listen)
    return Service("postgresql", command, folder, lambda: _listens(port))


def s3(settings: Settings) -> Service:
    """Return the S3 service: Versity's S3 gateway, which stores objects in a folder."""
    build = (ROOT / "tools/programs", ROOT / "tools/services")
    programs = subprocess.run(build, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
    folder, port = settings.folder, settings.ports["s3"]
    # A folder in objects/ is a bucket
    for name in ("metadata", *(f"objects/{bucket}" for bucket in BUCKETS)):
        (folder / "s3" / name).mkdir(parents=True, exist_ok=True)
    command = (f"{programs}/versitygw", "--quiet", "--port", f"127.0.0.1:{port}", "posix")
    command += ("--sidecar", f"{folder}/s3/metadata", f"{folder}/s3/objects")
    keys = {"ROOT_ACCESS_KEY": settings.key, "ROOT_SECRET_KEY": settings.secret}
    return Service("s3", command, folder, lambda: _listens(port), keys)


def mlflow(settings: Settings) -> Service:
    """Return the MLflow service, which stores runs in PostgreSQL and artifacts in S3."""
    place = f"127.0.0.1:{settings.ports['postgresql']}/postgres"
    environment = settings.environment | {
        "MLFLOW_BACKEND_STORE_URI": f"postgresql://loop:{settings.secret}@{place}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Otherwise MLflow starts eight more processes for GenAI jobs
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    del environment["MLFLOW_TRACKING_URI"]
    command = (sys.executable, "-m", "mlflow", "server", "--workers=2", "--artifacts-destination=s3://mlflow")
    command += ("--host=127.0.0.1", f"--port={settings.ports['mlflow']}")
    return Service("mlflow", command, settings.folder, lambda: _healthy(settings.url("mlflow")), environment)


def main() -> None:
    """Start the services, print how to use them, and restart any that dies."""
    parser = argparse.ArgumentParser("make services", description=__doc__)
    default = f"/var/tmp/loop-services-{os.getuid()}"  # noqa: S108 - PostgreSQL's user cannot read /root
    described = f"folder for the services' data ({default})"
    parser.add_argument("--folder", type=Path, default=Path(default), help=described)
    folder = parser.parse_args().folder.absolute()
    os.umask(0o077)  # some of the files contain secrets
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    for ends in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ends, lambda *_: sys.exit(0))
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder, fcntl.LOCK_NB))
        except BlockingIOError:
            fix = f"`. {folder}/env`, or name another --folder"
            raise SystemExit(f"services run in {folder} already; {fix}") from None
        settings = Settings.of(folder)
        services = []
        for make in (postgresql, s3, mlflow):
            service = make(settings)
            console.print(f"starting {service.name}")
            stack.callback(service.stop)
            service.start()
            services.append(service)
        exported = [f"export {name}={shlex.quote(value)}" for name, value in settings.environment.items()]
        write_text(folder / "env", "\n".join(exported) + "\n")
        urls = f"MLflow: {settings.url('mlflow')}  S3: {settings.url('s3')}"
        console.print(f"{urls}  buckets: {', '.join(BUCKETS)}")
        print(f". {folder}/env", flush=True)
        while True:
            time.sleep(0.2)
            for service in services:
                if service.process and service.process.poll() is not None:
                    console.print(f"{service.name} died; starting it again")
                    service.stop()  # ends the children that the dead process left
                    service.start()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
