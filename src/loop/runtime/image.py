"""Defines a bento's container image: a base image by digest, and packages by hash, without build tools."""

import os
import shlex
from pathlib import Path

from bentoml.images import Image

TOOLS = "/usr/local/bin"  # folder on PATH where BentoML's Dockerfile finds the uv next to this file


def pinned(lock: Path, base: str, python: str = "3.11") -> Image:
    """Return an image with the base `name@sha256:…` and the packages of a hashed lock file.

    LOOP_BASE_IMAGE replaces `base`. No distribution is set, because BentoML would then install unpinned
    packages with apt. BentoML would also leave the newest uv in a layer; instead it finds the pinned uv,
    which is removed after the installation.
    """
    base = os.environ.get("LOOP_BASE_IMAGE") or base
    image = Image(base_image=base, distro="", python_version=python, lock_python_packages=False)
    # Shell commands write both files, because BentoML copies no files into the image before it runs uv.
    written = []
    for source in (Path(__file__).with_name(name) for name in ("uv", "uv.lock")):
        lines = map(shlex.quote, source.read_text("utf-8").splitlines())
        written.append(f"printf '%s\\n' {' '.join(lines)} > {TOOLS}/{source.name}")
    image.run(" && ".join([*written, f"chmod +x {TOOLS}/uv"]))
    return image.python_packages(lock.read_text("utf-8").strip()).run(f"rm {TOOLS}/uv {TOOLS}/uv.lock")
