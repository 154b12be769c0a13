"""Errors that a person can act on, and the exit codes that workflows branch on."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line. Workflows branch on them, so they never change meaning."""

    OK = 0  # done, or nothing to do
    BAD_INPUT = 2  # a file, a param or an argument is wrong; nothing was changed
    KEEP = 3  # the gate keeps the champion: the challenger is sound but not better
    BLOCK = 4  # a gate rejects: data, candidate, bento or commit
    SUPERSEDED = 5  # somebody else's commit came first; nothing was changed
    DRIFT = 6  # production has drifted, or misses its SLA


class LoopError(Exception):
    """Something that the person at the keyboard can mend.

    The message names the place (file, key or row), what is there, and what should be; `fix` is the
    command or the edit that mends it.
    """

    exit = Exit.BAD_INPUT

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix

    def __str__(self) -> str:
        return f"{super().__str__()}\n  fix: {self.fix}" if self.fix else super().__str__()


class Rejected(LoopError):
    """A gate said no. The last good state keeps serving."""

    exit = Exit.BLOCK


class Superseded(LoopError):
    """Somebody else's commit came first, and what was asked for no longer applies."""

    exit = Exit.SUPERSEDED
