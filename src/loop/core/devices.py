"""Whether this machine has a GPU, and how JAX is given one."""

import os
from pathlib import Path
from typing import Any

from loop.core.errors import LoopError
from loop.core.plain import Device

NODES = ("/dev/nvidiactl", "/dev/dxg")  # of NVIDIA's driver, and of Windows' own below its Linux


def has_gpu() -> bool:
    """Whether a driver for NVIDIA's GPUs is there."""
    return any(Path(node).exists() for node in NODES)


def of_jax(device: Device, threads: int) -> Any:
    """The JAX device that `train.device` names. `threads` is how many threads a CPU computes with.

    Call it before JAX is imported. LoopError where there is no such device, as on a machine without a GPU.
    """
    os.environ["PJRT_NPROC"] = str(threads)  # XLA reads it as it starts, and JAX has no setting for it
    import jax

    try:
        return jax.devices(device)[0]
    except RuntimeError as error:
        raise LoopError(
            f"params.yaml: train.device: is {device!r}, but JAX finds no such device: {error}",
            fix="install requirements-cuda.lock on a machine with an NVIDIA GPU, or set `device: cpu`",
        ) from error
