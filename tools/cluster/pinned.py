"""The programs that the repository itself pins (tools/go.mod), kustomize among them."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def folder() -> Path:
    """Where they are; built when they are not there yet."""
    done = subprocess.run([ROOT / "tools" / "programs"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())
