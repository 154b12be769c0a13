"""The server's settings from environment variables, all checked at the start, before the model is loaded."""

import os
from typing import Annotated

import msgspec
from msgspec import Meta

from loop.runtime.log import DAYS


class WrongSetting(Exception):
    """A setting that prevents the server from starting; the message says what it should be."""

    def __init__(self, name: str, found: object, wanted: str) -> None:
        super().__init__(f"{name} is {found!r}, should be {wanted}")


class Settings(msgspec.Struct, frozen=True, rename=str.upper):
    """The settings by name."""

    # a URL such as s3://… would become a local folder, which is lost with the pod
    prediction_log_dir: Annotated[str, Meta(pattern="^/")] | None = None
    # `inf` keeps all files; in less than a day, the server would delete files that other pods still write
    prediction_log_days: Annotated[float, Meta(ge=1)] = DAYS
    scorer_threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    scorer_device: Annotated[str, Meta(pattern="^(cpu|cuda)$")] = "cpu"  # component `gpu` sets cuda


NAMES = Settings.__struct_encode_fields__


def read() -> Settings:
    """Return the settings; an empty one counts as not set. Raises WrongSetting if one is wrong."""
    given = {name: value for name in NAMES if (value := os.environ.get(name))}
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        said, _, name = str(error).rstrip("`").partition(" - at `$.")
        wanted = said.removeprefix("Expected ").partition(", got")[0]
        raise WrongSetting(name, given[name], wanted) from None


def device() -> str:
    """Return the device that the scorer should use: cpu or cuda."""
    return read().scorer_device


def limit(name: str, value: int, most: int) -> None:
    """Raise WrongSetting if a limit that asgi.py passes to `app.create` is out of range."""
    if type(value) is not int or not 1 <= value <= most:
        raise WrongSetting(name, value, f"a whole number from 1 to {most}")
