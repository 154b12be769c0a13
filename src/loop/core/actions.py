"""What a command tells the workflow that runs it; outside a workflow these do nothing."""

import os
import secrets
import sys
from pathlib import Path
from typing import TextIO

from loop.core.errors import LoopError
from loop.core.markdown import inert

SUMMARY = 1024 * 1024  # bytes: GitHub shows nothing of a step's summary that is larger
STOPPED = "LOOP_STOPPED"  # holds the word that makes GitHub read commands in a step's output again
LEFT_OUT = "The rest is left out: GitHub takes 1 MiB as a summary."


def output(**values: object) -> None:
    """Set step outputs: `output(released="true")`."""
    _append("GITHUB_OUTPUT", "".join(f"{key}={_one_line(value)}\n" for key, value in values.items()))


def summary(markdown: str) -> None:
    """Add Markdown to the job's summary; act drops its own, so LOOP_GITHUB_STEP_SUMMARY goes first."""
    own = "LOOP_GITHUB_STEP_SUMMARY"
    variable = own if os.environ.get(own) else "GITHUB_STEP_SUMMARY"
    path = Path(os.environ.get(variable, ""))
    used = path.stat().st_size if path.is_file() else 0
    _append(variable, cut(markdown + "\n", SUMMARY - used, LEFT_OUT))


def cut(markdown: str, most: int, rest: str) -> str:
    """As much of a text as `most` bytes of UTF-8 hold, up to a heading or a line; then the sentence `rest`.

    Room for that sentence is always left, so that it still fits where a later text is cut.
    """
    last = f"\n\n{rest}\n"
    if (room := most - len(last.encode())) < 0:
        return ""
    if len(text := markdown.encode()) <= room:
        return markdown
    kept = text[:room].decode(errors="ignore")
    return (kept.rpartition("\n### ")[0] or kept.rpartition("\n")[0] or kept) + last


def warning(title: str, text: str) -> None:
    """Warn the person: on the console, at the workflow's run and in the job's summary."""
    if os.environ.get("GITHUB_ACTIONS"):
        _command(f"::warning title={_escaped(title, ':,')}::{_escaped(text)}")
    print(f"warning: {text}", file=sys.stderr)
    summary(f"> [!WARNING]\n> {title}: {inert(text)}\n")


def mask(value: str) -> None:
    """Hide a secret in the workflow's log; of a secret with several lines, also each line."""
    for part in dict.fromkeys([value, *value.splitlines()]):
        if part.strip():
            _command(f"::add-mask::{_escaped(part)}")


def stop_commands(stream: TextIO | None = None) -> None:
    """Stop GitHub from reading workflow commands in this step's output, until the step ends.

    GitHub reads both streams. The line goes to stdout unless that belongs to a command's JSON.

    A command prints text from outside, and a column may be named `::add-mask::…` or hold a line break. Only
    a word that nobody can guess makes GitHub read commands again.
    """
    if os.environ.get("GITHUB_ACTIONS") and STOPPED not in os.environ:
        os.environ[STOPPED] = secrets.token_hex(16)
        print(f"::stop-commands::{os.environ[STOPPED]}", file=stream or sys.stdout, flush=True)


def _command(line: str) -> None:
    """Print a workflow command, which GitHub reads even after `stop_commands`."""
    sys.stderr.flush()
    word = os.environ.get(STOPPED)
    print(f"::{word}::\n{line}\n::stop-commands::{word}" if word else line, flush=True)


def _escaped(text: str, also: str = "") -> str:
    """Text escaped for a command as GitHub's own toolkit does; `also` lists further signs to escape."""
    for sign in f"%\r\n{also}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _one_line(value: object) -> str:
    text = str(value)
    if "\n" in text or "\r" in text:
        raise LoopError(
            f"a step's output is {text!r}, should be one line", fix="take the line break out of it"
        )
    return text
