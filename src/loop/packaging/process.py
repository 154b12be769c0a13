"""Serves a bento on this machine, in a Python environment created from the bento's lock file."""

import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from loop.core.errors import LoopError
from loop.core.paths import environment
from loop.core.release_state import EARLIER_SERVER, SERVER
from loop.packaging.bento import settings

PR_SET_PDEATHSIG = 1  # prctl's option to receive a signal when the parent dies
FAILED = "Application startup failed"  # the server prints this if the model cannot be loaded


def free_port() -> int:
    """Return a TCP port of this machine that is currently free."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class Server:
    """Context manager that serves one bento as its pod would.

    The server is ready inside the block and stopped after it. The server dies with the thread that entered
    the block, even if that is killed, so enter it from a thread that lasts.
    """

    def __init__(
        self,
        bento: Path,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        log_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
        ready_seconds: float = 60,
    ) -> None:
        self.bento, self.log_dir = bento, log_dir
        self.host, self.port = host, port or free_port()
        self.env = dict(env or {})
        self.ready_seconds = ready_seconds
        self.ready_after = 0.0  # seconds from the start until the server was ready

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the server has used, in steps of 0.01 s; 0 if it has ended."""
        import psutil

        try:
            mine = psutil.Process(self.pid)
            times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
        except psutil.Error:
            return 0.0
        return float(sum(one.user + one.system for one in times))

    def __enter__(self) -> Self:
        python = environment(self.bento / "src" / "requirements.lock")
        self._scratch = tempfile.TemporaryDirectory(prefix="loop-serve-", ignore_cleanup_errors=True)
        self._output = Path(self._scratch.name) / "output"
        start = time.monotonic()
        address = ["--host", self.host, "--port", str(self.port)]
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._command(python), *address],
                cwd=self.bento / "src",
                env=self._environment(python),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # in its own session, so that Ctrl-C reaches only this process, which then stops the server
                start_new_session=True,
                preexec_fn=_dying_with_parent(),  # noqa: PLW1509 - it only calls prctl
            )
        try:
            self._wait_until_ready(start)
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.monotonic() - start
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> int:
        """Wait until the server ends by itself, and return its exit code."""
        return self._process.wait()

    def output(self) -> str:
        """Return everything that the server has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    def stop(self, seconds: float = 15) -> None:
        """Stop the server with SIGTERM, so that it flushes its log, and kill it after `seconds` seconds."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._scratch.cleanup()

    def _command(self, python: Path) -> list[str | Path]:
        """Return the command that starts the server, as in kustomize/base/deployment.yaml.

        Bentos from before `loop.runtime.serve` are started by BentoML's own server.
        """
        for module in (SERVER, EARLIER_SERVER):
            if (self.bento / "src" / f"{module.replace('.', '/')}.py").is_file():
                return [python / "bin" / "python", "-m", module]
        return [python / "bin" / "bentoml", "serve", self.bento.absolute()]

    def _environment(self, python: Path) -> dict[str, str]:
        env = settings(Path(self._scratch.name))
        env["PATH"] = f"{python / 'bin'}{os.pathsep}{env.get('PATH', '')}"
        # the predictions of a rehearsal do not belong in production's log
        env.pop("PREDICTION_LOG_DIR", None)
        if self.log_dir:
            env["PREDICTION_LOG_DIR"] = str(self.log_dir.absolute())
        return {**env, **self.env}

    def _wait_until_ready(self, start: float) -> None:
        with httpx.Client(trust_env=False, timeout=2) as client:
            while time.monotonic() - start < self.ready_seconds:
                if self._process.poll() is not None or FAILED in self.output():
                    raise LoopError(f"{self.bento} does not start:\n{self._last_words()}")
                if self._answers(client):
                    return
                threading.Event().wait(0.05)
        raise LoopError(f"{self.bento} is not ready after {self.ready_seconds:.0f} s:\n{self._last_words()}")

    def _answers(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.url}/readyz").is_success
        except httpx.TransportError:
            return False

    def _last_words(self) -> str:
        return "\n".join(self.output().splitlines()[-25:])


def _dying_with_parent() -> Callable[[], object] | None:
    """Return a function that makes a child process receive SIGTERM when its parent thread dies.

    It is None except on Linux. The function prctl is looked up before the fork, because the child must not
    load libraries.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    return partial(prctl, PR_SET_PDEATHSIG, signal.SIGTERM) if prctl else None
