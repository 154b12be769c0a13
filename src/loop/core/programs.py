"""The Go programs that tools/go.mod pins."""

import shutil
import subprocess

from loop.core.errors import LoopError
from loop.core.paths import TEMPLATE

TOOL = TEMPLATE / "tools" / "programs"


def folder() -> str:
    """The folder of act, kustomize, kubeconform, actionlint and crane, which are built when missing."""
    done = subprocess.run([TOOL], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoopError(f"{TOOL}: {done.stderr.strip()[-300:]}", fix=f"run {TOOL} to see all that it says")
    return done.stdout.strip()


def program(name: str) -> str:
    """A pinned program; in an image, where nothing builds them, the one on PATH."""
    if TOOL.is_file():
        return f"{folder()}/{name}"
    if found := shutil.which(name):
        return found
    raise LoopError(f"{name} is neither in {TOOL} nor on PATH", fix="run this inside a clone")
