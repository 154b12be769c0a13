"""The container image of a bento: a base by digest, wheels by hash, and no tool left behind."""

import os
import shlex
from pathlib import Path

from bentoml.images import Image

HERE = Path(__file__).parent
TOOLS = "/usr/local/bin"  # where BentoML's Dockerfile finds the uv beside this file


def pinned(lock: Path, base: str, python: str = "3.11") -> Image:
    """The image of `base` (name@sha256:…; LOOP_BASE_IMAGE goes first) with the packages of a hashed lock.

    No distribution: the base has all that is needed, and what apt would add is not pinned. BentoML would
    leave the newest uv in a layer; it finds ours, which is there only while it runs.
    """
    image = Image(
        base_image=os.environ.get("LOOP_BASE_IMAGE") or base,
        distro="",
        python_version=python,
        lock_python_packages=False,
    )
    written = [_written(HERE / name, f"{TOOLS}/{name}") for name in ("uv", "uv.lock")]
    image.run(" && ".join([*written, f"chmod +x {TOOLS}/uv"]))
    return image.python_packages(lock.read_text("utf-8").strip()).run(f"rm {TOOLS}/uv {TOOLS}/uv.lock")


def _written(source: Path, target: str) -> str:
    """A shell command, of one line, that writes a text file: BentoML copies none in before its uv runs."""
    lines = map(shlex.quote, source.read_text("utf-8").splitlines())
    return f"printf '%s\\n' {' '.join(lines)} > {target}"
