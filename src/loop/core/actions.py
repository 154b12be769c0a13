"""Sends outputs, summaries, warnings and masks to the workflow that runs a command.

Outside a workflow, only warnings are printed.
"""

import os
import secrets
import sys
from pathlib import Path
from typing import Any, TextIO

from loop.core.files import read_json
from loop.core.markdown import inert
from loop.core.text import one_line

SUMMARY = 1024 * 1024  # GitHub rejects a step's summary of more bytes than this
# name of the environment variable with the token that lets GitHub process workflow commands again
STOPPED = "LOOP_STOPPED"
LEFT_OUT = "The rest is left out, because GitHub limits a summary to 1 MiB."


def event() -> dict[str, Any]:
    """Return the event that started this workflow, as GitHub describes it; empty outside a workflow."""
    path = Path(os.environ.get("GITHUB_EVENT_PATH", ""))
    return dict(read_json(path)) if path.is_file() else {}


def output(**values: object) -> None:
    """Set outputs of the workflow step, each as one line, as a second line could set another output."""
    _append("GITHUB_OUTPUT", "".join(f"{key}={one_line(value, None)}\n" for key, value in values.items()))


def summary(markdown: str) -> None:
    """Append Markdown to the job's summary."""
    own = "LOOP_GITHUB_STEP_SUMMARY"  # takes precedence, because act does not keep GITHUB_STEP_SUMMARY
    variable = own if os.environ.get(own) else "GITHUB_STEP_SUMMARY"
    path = Path(os.environ.get(variable, ""))
    used = path.stat().st_size if path.is_file() else 0
    _append(variable, cut(markdown + "\n", SUMMARY - used, LEFT_OUT))


def tell(markdown: str) -> None:
    """Print a text, and append it to the job's summary."""
    print(markdown)
    summary(markdown)


def cut(markdown: str, most: int, rest: str) -> str:
    """Cut `markdown` to `most` bytes of UTF-8, before a heading or a line, and append the sentence `rest`.

    Space for `rest` is reserved even if the text fits, so that it still fits when a later text is cut.
    """
    last = f"\n\n{rest}\n"
    if (room := most - len(last.encode())) < 0:
        return ""
    if len(text := markdown.encode()) <= room:
        return markdown
    kept = text[:room].decode(errors="ignore")
    return (kept.rpartition("\n### ")[0] or kept.rpartition("\n")[0] or kept) + last


def warning(title: str, text: str) -> None:
    """Print a warning to stderr, and add it to the workflow run's annotations and the job's summary."""
    if os.environ.get("GITHUB_ACTIONS"):
        _command(f"::warning title={_escaped(title, ':,')}::{_escaped(text)}")
    print(f"warning: {text}", file=sys.stderr)
    summary(f"> [!WARNING]\n> {title}: {inert(text)}\n")


def mask(value: str) -> None:
    """Hide a secret in the workflow's log, and each of its lines if it has several."""
    for part in dict.fromkeys([value, *value.splitlines()]):
        if part.strip():
            _command(f"::add-mask::{_escaped(part)}")


def stop_commands(stream: TextIO) -> None:
    """Make GitHub ignore workflow commands in the rest of this step's output.

    Printed data may contain text such as `::add-mask::…`, in a column name for example. GitHub processes
    commands again only after a random token, which the data cannot contain. GitHub reads stdout and stderr
    alike, so the token goes to stdout unless stdout must hold only a command's JSON.
    """
    if os.environ.get("GITHUB_ACTIONS") and STOPPED not in os.environ:
        os.environ[STOPPED] = secrets.token_hex(16)
        print(f"::stop-commands::{os.environ[STOPPED]}", file=stream, flush=True)


def _command(line: str) -> None:
    """Print a workflow command that GitHub processes even after `stop_commands`."""
    sys.stderr.flush()
    word = os.environ.get(STOPPED)
    print(f"::{word}::\n{line}\n::stop-commands::{word}" if word else line, flush=True)


def _escaped(text: str, also: str = "") -> str:
    """Escape text for a workflow command as GitHub's toolkit does; `also` lists more characters to escape."""
    for sign in f"%\r\n{also}":
        text = text.replace(sign, f"%{ord(sign):02X}")
    return text


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
