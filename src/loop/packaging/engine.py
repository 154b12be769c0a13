"""Finds this machine's container engine, docker, podman or buildah, and runs programs."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from loop.core.errors import LoopError

ENGINES = ("docker", "podman", "buildah")


def engine() -> str | None:
    """Return the engine to use, or None. Raises LoopError if LOOP_ENGINE names one that does not work."""
    asked = os.environ.get("LOOP_ENGINE")
    if asked == "none":
        return None
    found = next((name for name in ENGINES if asked in {None, "", name} and _runs(name)), None)
    if asked and not found:
        fix = f"start it, or set LOOP_ENGINE to one of {', '.join(ENGINES)}, none"
        raise LoopError(f"LOOP_ENGINE is {asked!r}, but `{asked} info` fails", fix=fix)
    return found


def options() -> list[str]:
    """Return the build options in LOOP_BUILD_OPTIONS, as `network=host` for an engine without a bridge."""
    return os.environ.get("LOOP_BUILD_OPTIONS", "").split()


def save(program: str, tag: str, to: Path) -> None:
    """Write the image `tag` to an archive in the format of `docker save`."""
    command = {
        "docker": ["docker", "save", "--output", str(to), tag],
        "podman": ["podman", "save", "--format", "docker-archive", "--output", str(to), tag],
        "buildah": ["buildah", "push", tag, f"docker-archive:{to}"],
    }[program]
    run(command, f"check that the disk has space, because {program} could not write the image")


def run(words: list[str], fix: str, env: Mapping[str, str] = os.environ, stdin: str | None = None) -> str:
    """Run a command and return its output. Raises LoopError with the end of its output if it fails."""
    env = {"BUILDAH_LAYERS": "true", **env}  # without it, buildah caches no layers
    try:
        done = subprocess.run(words, env=env, input=stdin, capture_output=True, errors="replace", check=False)
    except OSError as error:
        raise LoopError(f"{words[0]} does not run: {error}", fix=f"install {words[0]}") from error
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-3000:]
        raise LoopError(f"{' '.join(words)} failed:\n{said}", fix=fix)
    return done.stdout.strip()


def _runs(program: str) -> bool:
    try:
        done = subprocess.run([program, "info"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
