"""The server's settings from environment variables.

All are checked at the start, before the model is loaded.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from loop.runtime.log import DAYS

LOG, DEVICE, DEVICES = "PREDICTION_LOG_DIR", "SCORER_DEVICE", ("cpu", "cuda")
RETIRED = ("SERVING_WORKERS", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class WrongSetting(Exception):
    """A setting that prevents the server from starting.

    The message states its name, its value and what it should be.
    """

    def __init__(self, name: str, found: object, wanted: str) -> None:
        super().__init__(f"{name} is {found!r}, should {wanted}")


class Number(NamedTuple):
    """The type, default and range of a numeric setting; `wanted` describes them in error messages."""

    read: Callable[[str], Any]
    unset: Any
    least: float
    most: float
    wanted: str


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        # If log files were kept for less than a day, the server would delete files that other pods still
        # write to.
        "PREDICTION_LOG_DAYS": Number(
            float, DAYS, 1, float("inf"), "a number of days from 1 up (inf keeps all)"
        ),
        "SCORER_THREADS": Number(int, 1, 1, 1024, "a whole number from 1 to 1024"),
    }
)


def number(name: str) -> Any:
    """Return a numeric setting's value. Raises WrongSetting if it is not a number or out of range."""
    setting, text = NUMBERS[name], os.environ.get(name, "")
    if not text:
        return setting.unset
    try:
        value = setting.read(text)
    except ValueError:
        value = float("nan")  # NaN fails the range check below
    if not setting.least <= value <= setting.most:
        raise WrongSetting(name, text, f"be {setting.wanted}")
    return value


def device() -> str:
    """Return the device that the scorer computes on, `cpu` or `cuda`; component `gpu` sets `cuda`.

    Raises WrongSetting for other values.
    """
    if (found := os.environ.get(DEVICE) or "cpu") not in DEVICES:
        raise WrongSetting(DEVICE, found, f"be one of {', '.join(DEVICES)}")
    return found


def log_dir() -> Path | None:
    """Return the folder of the prediction log; None if it is not set.

    Raises WrongSetting if it is not an absolute path.
    """
    text = os.environ.get(LOG, "")
    if (
        text and not Path(text).is_absolute()
    ):  # a URL such as s3://… would become a local folder, which is lost with the pod
        raise WrongSetting(LOG, text, "be the absolute path of a folder")
    return Path(text) if text else None


def limit(name: str, value: int, most: int) -> int:
    """Return a limit that asgi.py passes to `app.create`. Raises WrongSetting if it is out of range."""
    if type(value) is not int or not 1 <= value <= most:
        raise WrongSetting(name, value, f"be a whole number from 1 to {most}")
    return value


def check() -> None:
    """Raise WrongSetting if a setting is wrong, or if it is no longer supported."""
    for name in RETIRED:
        if os.environ.get(name):
            raise WrongSetting(
                name,
                os.environ[name],
                "not be set, because a replica is one process; "
                "set `replicas`, or the HorizontalPodAutoscaler's minReplicas, instead",
            )
    log_dir()
    device()
    for name in NUMBERS:
        number(name)
