"""Defines a bento's container image: a base image by digest, and packages by hash, without build tools."""

import os
import shlex
from pathlib import Path

from bentoml.images import Image

HERE = Path(__file__).parent
TOOLS = "/usr/local/bin"  # folder on PATH where BentoML's Dockerfile finds the uv next to this file


def pinned(lock: Path, base: str, python: str = "3.11") -> Image:
    """Return an image with the base `name@sha256:…` and the packages of a hashed lock file.

    LOOP_BASE_IMAGE replaces `base`. No distribution is set, because BentoML would then install unpinned
    packages with apt. BentoML would also leave the newest uv in a layer; instead it finds the pinned uv,
    which is removed after the installation.
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
    """Return a one-line shell command that writes a text file.

    It is needed because BentoML copies no files into the image before it runs uv.
    """
    lines = map(shlex.quote, source.read_text("utf-8").splitlines())
    return f"printf '%s\\n' {' '.join(lines)} > {target}"
