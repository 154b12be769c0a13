"""Serves a bento on this machine, in a Python environment created from the bento's lock file."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import httpx

from loop.core.errors import LoopError
from loop.core.paths import environment
from loop.core.release_state import SERVER
from loop.packaging.bento import settings

HOST, READY_SECONDS = "127.0.0.1", 60


def free_port(port: int = 0) -> int:
    """Return a TCP port of this machine that is currently free. Raises OSError if `port` is not."""
    with socket.create_server((HOST, port)) as found:
        return int(found.getsockname()[1])


class Server:
    """Context manager that serves one bento as its pod would.

    The server is ready inside the block and stopped after it. The server dies with the thread that entered
    the block, even if that is killed, so enter it from a thread that lasts.
    """

    ready = "/readyz"  # the path that answers 2xx once the server is ready

    def __init__(
        self, bento: Path, port: int = 0, *, log_dir: Path | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.bento, self.port, self.log_dir, self.env = bento, port or free_port(), log_dir, env or {}
        self.url = f"http://{HOST}:{self.port}"
        self.ready_after = 0.0  # seconds from the start until the server was ready

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the server has used, in steps of 0.01 s; 0 if it has ended."""
        import psutil

        try:
            mine = psutil.Process(self.process.pid)
            times = [process.cpu_times() for process in (mine, *mine.children(recursive=True))]
        except psutil.Error:
            return 0.0
        return float(sum(one.user + one.system for one in times))

    def __enter__(self) -> Self:
        python = environment(self.bento / "src" / "requirements.lock")
        self._scratch = tempfile.TemporaryDirectory(prefix="loop-serve-", ignore_cleanup_errors=True)
        self._output = Path(self._scratch.name) / "output"
        start = time.monotonic()
        # The kernel ends the server with this thread, even if this process is killed; only Linux can do that.
        dying = ["setpriv", "--pdeathsig=TERM"] if shutil.which("setpriv") else []
        address = ["--host", HOST, "--port", str(self.port)]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*dying, *self._command(python), *address],
                cwd=self.bento / "src",
                env=self._environment(python),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # in its own session, so that Ctrl-C reaches only this process, which then stops the server
                start_new_session=True,
            )
        try:
            self._wait_until_ready(start)
        except BaseException:
            self.stop()
            raise
        self.ready_after = time.monotonic() - start
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def output(self) -> str:
        """Return everything that the server has printed so far."""
        return self._output.read_text(encoding="utf-8", errors="replace") if self._output.exists() else ""

    def stop(self) -> None:
        """Stop the server with SIGTERM, so that it flushes its log, and kill what is left after 15 s."""
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._scratch.cleanup()

    def _command(self, python: Path) -> list[str | Path]:
        """Return the command as in kustomize/base/deployment.yaml."""
        return [python / "bin" / "python", "-m", SERVER]

    def _environment(self, python: Path) -> dict[str, str]:
        env = settings(Path(self._scratch.name))
        env["PATH"] = f"{python / 'bin'}{os.pathsep}{env.get('PATH', '')}"
        # the predictions of a rehearsal do not belong in production's log
        env.pop("PREDICTION_LOG_DIR", None)
        if self.log_dir:
            env["PREDICTION_LOG_DIR"] = str(self.log_dir.absolute())
        return {**env, **self.env}

    def _wait_until_ready(self, start: float) -> None:
        trouble = f"is not ready after {READY_SECONDS} s"
        with httpx.Client(trust_env=False, timeout=2) as client:
            while time.monotonic() - start < READY_SECONDS:
                if self.process.poll() is not None:
                    trouble = "does not start"
                    break
                with suppress(httpx.TransportError):
                    if client.get(f"{self.url}{self.ready}").is_success:
                        return
                time.sleep(0.05)
        said, fix = "\n".join(self.output().splitlines()[-25:]), ""
        if missing := re.search(r"ModuleNotFoundError: No module named '(\w+)", said):
            fix = f"add the package of {missing[1]} to bentos/{self.bento.parent.name}/requirements.in and "
            fix += "run `make lock`; or do not import it"
        raise LoopError(f"{self.bento} {trouble}:\n{said}", fix=fix)
