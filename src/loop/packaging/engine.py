"""The container engine of this machine: which one runs, and what it has built."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from loop.core.errors import LoopError

ENGINES = ("docker", "podman", "buildah")
# buildah keeps no layer unless told: the next build then begins anew.
SETTINGS = {"BUILDAH_LAYERS": "true"}


def engine() -> str | None:
    """The first of docker, podman, buildah that runs, not just is there; LOOP_ENGINE names one, or `none`."""
    asked = os.environ.get("LOOP_ENGINE")
    if asked == "none":
        return None
    if asked and asked not in ENGINES:
        raise LoopError(f"LOOP_ENGINE is {asked!r}", fix=f"one of {', '.join(ENGINES)}, none")
    found = next((name for name in ([asked] if asked else ENGINES) if _runs(name)), None)
    if asked and not found:
        raise LoopError(
            f"LOOP_ENGINE is {asked}, but `{asked} info` fails", fix="start it, or LOOP_ENGINE=none"
        )
    return found


def options() -> list[str]:
    """The build's own, as `network=host` where the engine has no bridge: LOOP_BUILD_OPTIONS."""
    return os.environ.get("LOOP_BUILD_OPTIONS", "").split()


def save(program: str, tag: str, to: Path) -> None:
    """Write the image `name:tag` as the archive that `docker save` writes."""
    command = {
        "docker": ["docker", "save", "--output", str(to), tag],
        "podman": ["podman", "save", "--format", "docker-archive", "--output", str(to), tag],
        "buildah": ["buildah", "push", tag, f"docker-archive:{to}"],
    }[program]
    run(command, f"is there room on the disk? {program} could not write the image")


def run(command: list[str], fix: str, env: Mapping[str, str] = os.environ) -> str:
    """Run a program and return what it printed; LoopError with its last words."""
    done = subprocess.run(command, env={**SETTINGS, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise LoopError(f"{' '.join(command)} failed:\n{said}", fix=fix)
    return done.stdout.strip()


def _runs(program: str) -> bool:
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
