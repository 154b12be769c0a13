"""Finds the Go programs whose versions tools/go.mod pins."""

import shutil
import subprocess

from loop.core.errors import LoopError
from loop.core.paths import TEMPLATE

TOOL = TEMPLATE / "tools" / "programs"


def folder() -> str:
    """Return the folder with act, kustomize, kubeconform, actionlint and crane, built if missing."""
    done = subprocess.run([TOOL], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoopError(f"{TOOL}: {done.stderr.strip()[-300:]}", fix=f"run {TOOL} to see its whole output")
    return done.stdout.strip()


def program(name: str) -> str:
    """Return the path of a pinned program, or of the one on PATH in an image, which has no tools/programs."""
    if TOOL.is_file():
        return f"{folder()}/{name}"
    if found := shutil.which(name):
        return found
    raise LoopError(f"{name} is neither in {TOOL} nor on PATH", fix="run this inside a clone")
