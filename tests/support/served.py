"""Runs a bento's server as a process in this environment: `python -m loop.runtime.serve`."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

SRC = Path(__file__).parents[2] / "src"
ASGI = """
from pathlib import Path
from loop.runtime import app, booster
{scorer}
application = app.create(Path(__file__).parent, {load}, **{limits})
"""


class Served:
    """A running server."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, output: Path) -> None:
        self.process, self.port, self._output = process, port, output
        self.url = f"http://127.0.0.1:{port}"

    def ready(self, seconds: float = 60) -> None:
        """Wait until the server is ready."""
        end = time.monotonic() + seconds
        with httpx.Client(trust_env=False) as client:
            while time.monotonic() < end:
                assert self.process.poll() is None, self.output()
                try:
                    if client.get(f"{self.url}/readyz").is_success:
                        return
                except httpx.TransportError:
                    time.sleep(0.05)
        raise AssertionError(self.output())

    def output(self) -> str:
        return self._output.read_text()

    def resident(self) -> int:
        """Return the resident memory in bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)


def application(source: Path, scorer: str = "", load: str = "booster.load", **limits: int) -> None:
    """Write a bento's asgi.py."""
    (source / "asgi.py").write_text(ASGI.format(scorer=scorer, load=load, limits=limits))


@contextmanager
def started(source: Path, port: int, *args: str, **env: str) -> Iterator[Served]:
    """Start the server of a bento's source folder, and end it when the block ends."""
    output = source.parent / f"output-{port}"
    kept = {key: value for key, value in os.environ.items() if key != "PREDICTION_LOG_DIR"}
    with output.open("wb") as file:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "loop.runtime.serve",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                *args,
            ],
            cwd=source,
            env={**kept, "PYTHONPATH": str(SRC), **env},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Served(process, port, output)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def serving(source: Path, port: int, *args: str, **env: str) -> Iterator[Served]:
    """Start the server and wait until it is ready."""
    with started(source, port, *args, **env) as served:
        served.ready()
        yield served
