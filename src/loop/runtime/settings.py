"""The environment settings that the server reads. Each is checked at the start, before anything is loaded."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from loop.runtime.log import DAYS

LOG, DEVICE, DEVICES = "PREDICTION_LOG_DIR", "SCORER_DEVICE", ("cpu", "cuda")
RETIRED = ("SERVING_WORKERS", "PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")


class WrongSetting(Exception):
    """A setting that the server can't start with: its name, what it is and what it should be."""

    def __init__(self, name: str, found: object, wanted: str) -> None:
        super().__init__(f"{name} is {found!r}, should {wanted}")


class Number(NamedTuple):
    """What a setting may be."""

    read: Callable[[str], Any]
    unset: Any
    least: float
    most: float
    wanted: str


NUMBERS: Mapping[str, Number] = MappingProxyType(
    {
        "PREDICTION_LOG_DAYS": Number(  # less than a day would remove files that other pods still write to
            float, DAYS, 1, float("inf"), "a number of days from 1 up (inf keeps all)"
        ),
        "SCORER_THREADS": Number(int, 1, 1, 1024, "a whole number from 1 to 1024"),
    }
)


def number(name: str) -> Any:
    """A setting's value; WrongSetting where it is out of its range, or no number at all."""
    setting, text = NUMBERS[name], os.environ.get(name, "")
    if not text:
        return setting.unset
    try:
        value = setting.read(text)
    except ValueError:
        value = float("nan")  # which is in no range
    if not setting.least <= value <= setting.most:
        raise WrongSetting(name, text, f"be {setting.wanted}")
    return value


def device() -> str:
    """What the scorer computes on: `cpu`, or `cuda` where component `gpu` sets it. WrongSetting otherwise."""
    if (found := os.environ.get(DEVICE) or "cpu") not in DEVICES:
        raise WrongSetting(DEVICE, found, f"be one of {', '.join(DEVICES)}")
    return found


def log_dir() -> Path | None:
    """Where predictions are logged; None where nobody asked for it. WrongSetting for anything but a path."""
    text = os.environ.get(LOG, "")
    if (
        text and not Path(text).is_absolute()
    ):  # s3://… would be a folder of that name, which goes with the pod
        raise WrongSetting(LOG, text, "be the absolute path of a folder")
    return Path(text) if text else None


def limit(name: str, value: int, most: int) -> int:
    """A limit that asgi.py gives to `app.create`; WrongSetting where it is out of its range."""
    if type(value) is not int or not 1 <= value <= most:
        raise WrongSetting(name, value, f"be a whole number from 1 to {most}")
    return value


def check() -> None:
    """WrongSetting where the server could not start, or where it would do something else than was asked."""
    for name in RETIRED:
        if os.environ.get(name):
            raise WrongSetting(
                name,
                os.environ[name],
                "not be set: a replica is one process; "
                "set `replicas`, or the HorizontalPodAutoscaler's minReplicas, instead",
            )
    log_dir()
    device()
    for name in NUMBERS:
        number(name)
