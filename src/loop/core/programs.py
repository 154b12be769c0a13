"""The Go programs that tools/go.mod pins."""

import shutil
import subprocess
from pathlib import Path

from loop.core.errors import LoopError
from loop.core.paths import TEMPLATE


def program(root: Path, name: str) -> str:
    """A pinned Go program: from tools/programs, which builds it once; in a tree without, from PATH."""
    candidates = (root / "tools" / "programs", TEMPLATE / "tools" / "programs")
    tools = next((path for path in candidates if path.is_file()), None)
    if tools is None:
        if found := shutil.which(name):
            return found
        raise LoopError(f"{name} is neither in tools/programs nor on PATH", fix="run this inside a clone")
    done = subprocess.run([tools], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoopError(f"{tools}: {done.stderr.strip()}")
    return f"{done.stdout.strip()}/{name}"
