"""The environment settings that the server reads. Each is checked at the start, before anything is loaded."""

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from loop.serving.packed.log import DAYS

RETIRED = ("SERVING_WORKERS", "PROMETHEUS_MULTIPROC_DIR")


class WrongSetting(Exception):
    """A setting that the server can't start with: its name, what it is and what it should be."""


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
        raise WrongSetting(f"{name} is {text!r}, should be {setting.wanted}")
    return value


def check() -> None:
    """WrongSetting where the server could not start, or where it would do something else than was asked."""
    for name in RETIRED:
        if name in os.environ:
            raise WrongSetting(
                f"{name} is {os.environ[name]!r}, should not be set: a replica is one process; "
                "set `replicas`, or the HorizontalPodAutoscaler's minReplicas, instead"
            )
    for name in NUMBERS:
        number(name)
