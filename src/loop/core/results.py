"""The parts of what commands print with --json. Scripts read the fields, so their names never change."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Entry:
    """One commit that changed what an environment serves."""

    commit: str
    when: str  # time of the commit, ISO 8601
    author: str
    subject: str  # first line of the commit's message
    action: str  # the command that made the commit, such as promote; empty for a commit by a person
    step: str  # the canary's step after the commit, such as canary-10
    key: str  # the release key that the commit is about
    digest: str  # digest of that release's image
    why: str  # the reason that the commit states


@dataclass(frozen=True)
class Finding:
    """One question of the doctor, and its answer."""

    state: Literal["ok", "default", "bad"]  # `default` works, and there is something larger to move to
    what: str  # the thing that was examined
    found: str
    fix: str = ""  # the command or the edit that fixes it, or that moves to something larger
