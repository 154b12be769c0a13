"""Finds the Go programs that the repository pins in tools/go.mod, such as kustomize."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def folder() -> Path:
    """Return the folder of the pinned programs; they are built first if they are missing."""
    done = subprocess.run([ROOT / "tools" / "programs"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())
