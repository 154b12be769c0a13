"""The servers of `make services` end with it, however it ends."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

NOBODY = ("--reuid=65534", "--regid=65534", "--clear-groups")
KILLED = """\
import os, pathlib, psutil, runpy, sys
folder, program, *user = sys.argv[1:]
server = runpy.run_path(program)["Service"](
    "sleeper", ("sleep", "600"), pathlib.Path(folder),
    lambda: psutil.Process(server.process.pid).name() == "sleep", user=tuple(user),
)
server.start()
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="only Linux ends a process with its parent")
@pytest.mark.parametrize("user", [(), NOBODY])
def test_a_killed_make_services_leaves_no_server(
    repository: Path, tmp_path: Path, user: tuple[str, ...]
) -> None:
    """A server ends if `make services` is killed, also one that root starts as another user.

    PostgreSQL would go on otherwise, and the next `make services` could not start its own.
    """
    if user and os.geteuid():
        pytest.skip("only root can start a program as another user")
    command = [sys.executable, "-c", KILLED, tmp_path, repository / "tools/services/__main__.py", *user]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(repository / "src")}, check=False)
    assert done.returncode == -signal.SIGKILL
    server = int((tmp_path / "sleeper.pid").read_text())
    try:
        if psutil.pid_exists(server):
            psutil.Process(server).wait(10)
    finally:
        if psutil.pid_exists(server):
            os.kill(server, signal.SIGKILL)
