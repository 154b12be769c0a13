"""Errors that tell a person how to fix them, and the exit codes that workflows depend on."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line. Workflows depend on them, so their meanings never change."""

    OK = 0  # success, also if there was nothing to do
    BAD_INPUT = 2  # a file, a parameter or an argument is wrong; nothing was changed
    KEEP = 3  # the gate keeps the champion, because the challenger is sound but not better
    BLOCK = 4  # a gate rejected data, a candidate, a bento or a commit
    SUPERSEDED = 5  # another commit was pushed first; nothing was changed
    DRIFT = 6  # production's data has drifted, or a model misses its SLA


class LoopError(Exception):
    """An error that a user can fix.

    The message names the place (file, key or row), what was found there and what was expected. `fix` is the
    command or edit that corrects it.
    """

    exit = Exit.BAD_INPUT

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        return f"{super().__str__()}\n  fix: {self.fix}" if self.fix else super().__str__()


class Rejected(LoopError):
    """A gate rejected its input. The release that serves now keeps serving."""

    exit = Exit.BLOCK


class Superseded(LoopError):
    """Another commit was pushed first, so the requested change no longer applies."""

    exit = Exit.SUPERSEDED
