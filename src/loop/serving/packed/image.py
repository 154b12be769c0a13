"""The container image of a bento: a base by digest, and wheels by hash."""

import os
from pathlib import Path

from bentoml.images import Image

UV = "0.13.9"  # what installs the wheels; BentoML would take whichever is newest


def pinned(lock: Path, base: str, python: str = "3.11") -> Image:
    """The image of `base` (name@sha256:…; LOOP_BASE_IMAGE goes first) with the packages of a hashed lock.

    No distribution: the base has all that is needed, and what apt would add is not pinned.
    """
    image = Image(
        base_image=os.environ.get("LOOP_BASE_IMAGE", base),
        distro="",
        python_version=python,
        lock_python_packages=False,
    )
    return image.run(f"pip install --no-cache-dir uv=={UV}").python_packages(lock.read_text("utf-8").strip())
