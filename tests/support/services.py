"""The servers of `make services`, shared by the whole session.

Import the fixture by name in a conftest.py: `from services import services`.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from standin import ROOT
from trained import run


@dataclass(frozen=True)
class Services:
    """The running servers. `environment` holds the variables by which commands find them."""

    folder: Path
    environment: dict[str, str]

    @property
    def s3(self) -> Any:
        """Return a client of the S3 server."""
        names = ("endpoint_url", "aws_access_key_id", "aws_secret_access_key", "region_name")
        found = [value for name, value in self.environment.items() if name.startswith("AWS_")]
        return boto3.client("s3", **dict(zip(names, found, strict=True)))

    def loop(self, clone: Path, *command: str, code: int = 0, **env: str) -> str:
        """Run a command of a clone on these servers, check its exit code, and return its output."""
        return run("./loop", *command, cwd=clone, code=code, **{**self.environment, **env})

    def kill(self, name: str) -> None:
        """Kill a server and its children. `make services` starts it again."""
        os.killpg(int((self.folder / f"{name}.pid").read_text()), signal.SIGKILL)

    def wait(self) -> None:
        """Wait until MLflow answers from its database and S3 lists its buckets."""
        asked = {"json": {"max_results": 1}, "timeout": 5}
        url = f"{self.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search"
        for _ in range(120):
            with suppress(httpx.HTTPError, BotoCoreError, ClientError):
                if httpx.post(url, **asked).is_success and self.s3.list_buckets():
                    return
            time.sleep(0.5)
        pytest.fail("MLflow and S3 still do not answer")


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Start PostgreSQL, S3 and MLflow as `make services` does."""
    with TemporaryDirectory(prefix="loop-services-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        command = [sys.executable, ROOT / "tools/services", f"--folder={name}"]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as process:
            assert process.stdout
            assert process.stdout.readline(), "tools/services ended before its servers were ready"
            lines = shlex.split((Path(name) / "env").read_text())
            pairs = (word.split("=", 1) for word in lines if word != "export")
            yield Services(Path(name), dict(pairs))
            process.terminate()
