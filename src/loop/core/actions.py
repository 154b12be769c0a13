"""What a command tells the workflow that runs it; outside a workflow these do nothing."""

import os
import sys
from pathlib import Path


def output(**values: object) -> None:
    """Set step outputs: `output(released="true")`."""
    _append("GITHUB_OUTPUT", "".join(f"{key}={_one_line(value)}\n" for key, value in values.items()))


def summary(markdown: str) -> None:
    """Add Markdown to the job's summary; act drops its own, so LOOP_GITHUB_STEP_SUMMARY goes first."""
    own = "LOOP_GITHUB_STEP_SUMMARY"
    _append(own if os.environ.get(own) else "GITHUB_STEP_SUMMARY", markdown + "\n")


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
