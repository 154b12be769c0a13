"""Errors that tell a person how to fix them, and the exit codes that workflows depend on."""

from enum import IntEnum
from typing import Self


class Exit(IntEnum):
    """Exit codes of the command line. Workflows depend on them, so their meanings never change."""

    meaning: str  # one sentence, which `./loop --help` and the docs show

    def __new__(cls, code: int, meaning: str) -> Self:
        """Create a member whose value is the exit code and which carries its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    OK = 0, "The command succeeded, or there was nothing to do."
    BUG = 1, "The command failed because of a bug; the traceback shows where."
    BAD_INPUT = 2, "An argument, a file or this machine's setup is wrong; the message says how to fix it."
    KEEP = 3, "The gate keeps the champion, because the challenger is sound but not better."
    BLOCK = 4, "A check rejected the data, the candidate, the image or the commit."
    SUPERSEDED = 5, "Another commit was pushed first, so nothing was changed."
    DRIFT = 6, "Production's data has drifted, or a model misses its target, so it should be retrained."
    INTERRUPTED = 130, "Somebody pressed Ctrl-C."


class LoopError(Exception):
    """An error that a user can fix.

    The message names the place (file, key or row), what was found there and what was expected. `fix` is the
    command or edit that corrects it, and `docs` a page that says more, such as docs/fork.md#upgrading.
    """

    exit = Exit.BAD_INPUT

    def __init__(self, message: str, *, fix: str = "", docs: str = "") -> None:
        super().__init__(message)
        self.fix = fix
        self.docs = docs

    def __str__(self) -> str:
        return f"{super().__str__()}\n  fix: {self.fix}" if self.fix else super().__str__()


class Rejected(LoopError):
    """A gate rejected its input. The release that serves now keeps serving."""

    exit = Exit.BLOCK


class Superseded(LoopError):
    """Another commit was pushed first, so the requested change no longer applies."""

    exit = Exit.SUPERSEDED
