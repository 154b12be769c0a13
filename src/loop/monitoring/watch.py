"""Looking again and again: for a person until a canary's end, in a cluster for ever."""

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
    """Look every so many seconds, tell what is new, and return the look that finds no canary.

    With `forever` it goes on then, and through whatever a look may raise. Each look touches
    `alive`. Rejected when `deadline` seconds have passed.
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
    """One look; what went wrong with it is its line."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 — whatever a server answers, the next look comes
        return Look(one_line(f"{type(error).__name__}: {error}", LONGEST), "wait")
