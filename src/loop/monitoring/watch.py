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

    Returns that last result. With `forever` the loop continues after such a result, and after an exception of
    `look`. After each call the file `alive` is touched, for the liveness probe. Raises Rejected when
    `deadline` seconds have passed.
    """
    ends, said = time.monotonic() + deadline if deadline else float("inf"), ""
    while True:
        try:
            found = look()
        except Exception as error:
            if not forever:  # the loop must survive any answer of a server
                raise
            found = Look(one_line(f"{type(error).__name__}: {error}", LONGEST), "wait")
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
