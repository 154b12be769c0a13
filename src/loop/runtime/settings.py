"""The server's settings from environment variables, all checked at the start, before the model is loaded."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loop.runtime.log import DAYS

LOG, DEVICE, DEVICES = "PREDICTION_LOG_DIR", "SCORER_DEVICE", ("cpu", "cuda")
RETIRED = ("SERVING_WORKERS", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
# type, default, minimum, maximum and description of each numeric setting
NUMBERS: dict[str, tuple[Callable[[str], float], float, float, float, str]] = {
    # if log files were kept for less than a day, the server would delete files that other pods still write
    "PREDICTION_LOG_DAYS": (float, DAYS, 1, math.inf, "a number of days from 1 up (inf keeps all)"),
    "SCORER_THREADS": (int, 1, 1, 1024, "a whole number from 1 to 1024"),
}


class WrongSetting(Exception):
    """A setting that prevents the server from starting; the message says what it should be."""

    def __init__(self, name: str, found: object, wanted: str) -> None:
        super().__init__(f"{name} is {found!r}, should {wanted}")


def number(name: str) -> Any:
    """Return a numeric setting's value. Raises WrongSetting if it is not a number or out of range."""
    read, unset, least, most, wanted = NUMBERS[name]
    text = os.environ.get(name, "")
    try:
        value = read(text) if text else unset
    except ValueError:
        value = math.nan  # NaN fails the range check below
    if not least <= value <= most:
        raise WrongSetting(name, text, f"be {wanted}")
    return value


def device() -> str:
    """Return the scorer's device, `cpu` or (by component `gpu`) `cuda`. Raises WrongSetting for others."""
    if (found := os.environ.get(DEVICE) or "cpu") not in DEVICES:
        raise WrongSetting(DEVICE, found, f"be one of {', '.join(DEVICES)}")
    return found


def log_dir() -> Path | None:
    """Return the prediction log's folder, or None. Raises WrongSetting if its path is not absolute."""
    if not (text := os.environ.get(LOG, "")):
        return None
    # a URL such as s3://… would become a local folder, which is lost with the pod
    if not Path(text).is_absolute():
        raise WrongSetting(LOG, text, "be the absolute path of a folder")
    return Path(text)


def limit(name: str, value: int, most: int) -> None:
    """Raise WrongSetting if a limit that asgi.py passes to `app.create` is out of range."""
    if type(value) is not int or not 1 <= value <= most:
        raise WrongSetting(name, value, f"be a whole number from 1 to {most}")


def check() -> None:
    """Raise WrongSetting if a setting is wrong, or if it is no longer supported."""
    instead = "because a replica is one process; set `replicas`, or the HorizontalPodAutoscaler's minReplicas"
    for name in RETIRED:
        if found := os.environ.get(name):
            raise WrongSetting(name, found, f"not be set, {instead}, instead")
    log_dir()
    device()
    for name in NUMBERS:
        number(name)
