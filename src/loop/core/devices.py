"""Detects NVIDIA GPUs, and gives JAX the device that a model trains on."""

import os
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.plain import Device

# device files of NVIDIA's Linux driver, and of Windows' GPU driver inside WSL
NODES = ("/dev/nvidiactl", "/dev/dxg")


def has_gpu() -> bool:
    """Whether this machine has a driver for NVIDIA GPUs."""
    return any(Path(node).exists() for node in NODES)


def of_jax(device: Device, threads: int) -> Any:
    """Return the JAX device for `train.device`; `threads` is how many threads it uses if it is a CPU.

    Must be called before JAX is imported. Raises LoopError if JAX finds no such device.
    """
    # XLA reads the number of threads only from this variable, when it starts
    os.environ["PJRT_NPROC"] = str(threads)
    import jax

    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        raise LoopError(
            f"params.yaml: train.device: is {device!r}, but JAX finds no such device: {error}",
            fix="install requirements-cuda.lock on a machine with an NVIDIA GPU, or set `device: cpu`",
        ) from error
