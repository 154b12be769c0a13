"""Repeats the canary judge's check, until the canary ends or, in a cluster, without end."""

import time
from collections.abc import Callable
from pathlib import Path

import click

from loop.core.errors import Rejected
from loop.core.text import one_line
from loop.monitoring.judge import LONGEST, Look


def watch(
    look: Callable[[], Look],
    every: float,
    *,
    forever: bool = False,
    deadline: float | None = None,
    alive: Path | None = None,
) -> Look:
    """Check every `every` seconds, print each new result, and return the first result without a canary.

    With `forever` it continues after that, and after any exception. Each check touches the file `alive`, for
    the liveness probe. Raises Rejected after `deadline` seconds.
    """
    ends, said = time.monotonic() + deadline if deadline else float("inf"), ""
    while True:
        found = outliving(look) if forever else look()
        if alive:
            alive.touch()
        if found.line != said:
            click.echo(found.line)
        said = found.line
        if found.over and not forever:
            return found
        if time.monotonic() + every > ends:
            raise Rejected(f"after {deadline:g} s: {found.line}")
        time.sleep(every)


def outliving(look: Callable[[], Look]) -> Look:
    """Run one check; an exception becomes its result's line, so that the loop continues."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 — the loop must survive any answer of a server
        return Look(one_line(f"{type(error).__name__}: {error}", LONGEST), "wait")
