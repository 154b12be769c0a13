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
    """Call `look` every `every` seconds and print each new result, until a result says that no canary runs.

    Returns that last result. With `forever` the loop never ends, even if `look` raises an exception. After
    each call the file `alive` is touched, for the liveness probe. Raises Rejected if the canary still runs
    after `deadline` seconds.
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
