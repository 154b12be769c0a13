"""The server's settings from environment variables, all checked at the start, before the model is loaded."""

import os
from typing import Annotated

import msgspec
from msgspec import Meta

from loop.runtime.log import DAYS


class Settings(msgspec.Struct, frozen=True, rename=str.upper):
    """The settings by name."""

    # a URL such as s3://… would become a local folder, which is lost with the pod
    prediction_log_dir: Annotated[str, Meta(pattern="^/")] | None = None
    # `inf` keeps all files; in less than a day, the server would delete files that other pods still write
    prediction_log_days: Annotated[float, Meta(ge=1)] = DAYS
    scorer_threads: Annotated[int, Meta(ge=1, le=1024)] = 1
    scorer_device: Annotated[str, Meta(pattern=r"^(cpu|cuda)\Z")] = "cpu"  # component `gpu` sets cuda


NAMES = Settings.__struct_encode_fields__


def read() -> Settings:
    """Return the settings; an empty one counts as not set. Raises ValidationError that names a wrong one."""
    given = {name: value for name in NAMES if (value := os.environ.get(name))}
    return msgspec.convert(given, Settings, strict=False)


def device() -> str:
    """Return the device that the scorer should use: cpu or cuda."""
    return read().scorer_device
