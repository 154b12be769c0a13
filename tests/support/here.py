"""Runs `./loop`, and the DVC that it starts, in the test's own process, so that libraries are imported once.

The models' code comes from the clone, but `loop` comes from this work tree. A test that is about processes,
or that changes `loop` in its clone, runs `./loop` as a program instead.
"""

import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pytest

from loop.cli import main
from loop.core import dvc as loops_dvc


def command(root: Path, *args: str, **env: str) -> tuple[int, str]:
    """Run `./loop` in a clone, outside any workflow, and return its exit code and its whole output."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with ExitStack() as stack:
        printed = stack.enter_context(tempfile.TemporaryFile("w+"))
        stack.enter_context(mock.patch.dict(os.environ, {**kept, "PATH": path, **env}, clear=True))
        stack.enter_context(chdir(root))
        stack.enter_context(models_of(root))
        stack.enter_context(dvc_in_here())
        with printing_to(printed, printed):
            code = called(*args)
        printed.seek(0)
        return code, printed.read()


def called(*args: str) -> int:
    """Run the command line in the current folder and return its exit code."""
    with mock.patch.object(sys, "argv", ["loop", *args]):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@contextmanager
def printing_to(out: io.TextIOBase, err: io.TextIOBase) -> Iterator[None]:
    """Redirect the output of Python and of the programs that it starts to these files."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    kept = os.dup(1), os.dup(2)
    with redirect_stdout(out), redirect_stderr(err):
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        try:
            yield
        finally:
            out.flush()
            err.flush()
            for number, stream in zip((1, 2), kept, strict=True):
                os.dup2(stream, number)
                os.close(stream)


@contextmanager
def models_of(root: Path) -> Iterator[None]:
    """Import `models` from a clone, and restore the former `models` afterwards."""

    def taken() -> dict[str, object]:
        names = [name for name in sys.modules if name.partition(".")[0] == "models"]
        return {name: sys.modules.pop(name) for name in names}

    before, path = taken(), list(sys.path)
    sys.path.insert(0, str(root / "src"))
    try:
        yield
    finally:
        taken()
        sys.modules.update(before)
        sys.path[:] = path


@pytest.fixture
def dvc_here() -> Iterator[None]:
    """Use `dvc_in_here` in a test that requests this fixture."""
    with dvc_in_here():
        yield


@pytest.fixture(autouse=True)
def dvc_always_here(dvc_here: None) -> None:
    """Use `dvc_in_here` in every test of a folder whose conftest.py imports this fixture."""


@contextmanager
def dvc_in_here() -> Iterator[None]:
    """Run DVC in this process, together with the stages that are commands of `./loop`."""
    with mock.patch.object(loops_dvc, "subprocess", _Here):
        yield


class _Here:
    """The part of `subprocess` that loop.core.dvc uses."""

    PIPE = subprocess.PIPE

    @staticmethod
    def run(
        command: list[str], *, cwd: Path, env: dict[str, str], stdout: int | None, **_: object
    ) -> subprocess.CompletedProcess[str]:
        import dvc.logger
        import dvc.stage.run
        from dvc.cli import main as dvc_main

        others = dvc.stage.run._run

        def stage(executable: str, cmd: str, **options: object) -> None:
            if not cmd.startswith("./loop stage "):
                others(executable, cmd, **options)
            elif code := called(*shlex.split(cmd)[1:]):
                raise dvc.stage.run.StageCmdFailedError(cmd, code)

        assert command[:3] == [sys.executable, "-m", "dvc"], command
        with ExitStack() as stack:
            stack.enter_context(mock.patch.dict(os.environ, env, clear=True))
            stack.enter_context(chdir(cwd))
            stack.enter_context(mock.patch.object(dvc.stage.run, "_run", stage))
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            if stdout is not None:
                stack.enter_context(printing_to(out, err))
            for name in ("dvc", "dvc_objects", "dvc_data"):
                # Their handlers still print to the stdout of an earlier call.
                dvc.logger.logging.getLogger(name).handlers.clear()
            dvc.logger.setup()
            code = dvc_main(command[3:])
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read())
            return subprocess.CompletedProcess(command, code, *said)
