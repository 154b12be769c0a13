"""What a command tells the workflow that runs it; outside a workflow these do nothing."""

import os
import sys
from pathlib import Path

SUMMARY = 1024 * 1024  # bytes: GitHub shows nothing of a step's summary that is larger
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
        print(f"::warning title={title}::{text}")
    print(f"warning: {text}", file=sys.stderr)
    summary(f"> [!WARNING]\n> {title}: {text}\n")


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _one_line(value: object) -> str:
    text = str(value)
    if "\n" in text or "\r" in text:
        raise ValueError(f"a step output is one line, not {text!r}")
    return text
