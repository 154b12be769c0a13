"""Errors that a person can fix, and the exit codes of the command line."""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """The exit codes of every command. Workflows branch on them, so a code never changes its meaning."""

    meaning: str  # one sentence, which `./loop --help` and the docs show

    def __new__(cls, code: int, meaning: str) -> Self:
        """A member is its code, and carries its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "The command has done its work, or there was nothing to do."
    BUG = 1, "The command failed in a way that nobody foresaw; the traceback says where."
    BAD_INPUT = 2, "An argument, a file or this machine is wrong; the message says how to fix it."
    KEEP = 3, "The gate keeps the champion, because the challenger is sound but not better."
    BLOCK = 4, "A check rejects the data, the candidate, the image or the commit."
    SUPERSEDED = 5, "Another commit came first, so nothing was changed."
    DRIFT = 6, "Production has drifted or misses a target, so a retraining is due."
    INTERRUPTED = 130, "Somebody pressed Ctrl-C."


class LoopError(Exception):
    """An error that the person at the keyboard can fix.

    The message names the place (file, key or row), what was found there, and what was expected. `fix` is
    the command or the edit that fixes it, and `docs` a page that says more, such as docs/fork.md#upgrading.
    """

    exit = Exit.BAD_INPUT

    def __init__(self, message: str, *, fix: str = "", docs: str = "") -> None:
        super().__init__(message)
        self.fix = fix
        self.docs = docs

    def __str__(self) -> str:
        return f"{super().__str__()}\n  fix: {self.fix}" if self.fix else super().__str__()


class Rejected(LoopError):
    """A check said no. What served before goes on serving."""

    exit = Exit.BLOCK


class Superseded(LoopError):
    """Another commit came first, so the requested change no longer applies."""

    exit = Exit.SUPERSEDED
