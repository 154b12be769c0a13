"""What an environment served, when and why: the log of its release state, by the commits' trailers."""

from dataclasses import dataclass

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.delivery import commit as commits
from loop.delivery.commit import Place
from loop.delivery.state import Track, folder

TRAILERS = ("Action", "Step", "Release-Key", "Digest", "Why")
FIELD, RECORD = "\x1f", "\x1e"


@dataclass(frozen=True)
class Entry:
    """One commit of an environment's history."""

    commit: str
    when: str  # ISO 8601
    author: str
    subject: str
    action: str
    step: str
    key: str
    digest: str
    why: str


def history(git: Git, place: Place, branch: str = "main") -> list[Entry]:
    """Every change of a place on origin's branch, newest first."""
    return changes(git, place, git.fetch(branch))


def changes(git: Git, place: Place, commit: str) -> list[Entry]:
    """Every change of a place up to a commit, newest first. A person's change has no trailers."""
    trailers = [f"%(trailers:key={name},valueonly,separator= )" for name in TRAILERS]
    form = FIELD.join(["%H", "%cI", "%an", "%s", *trailers]) + RECORD
    path = f"{folder(place.environment, place.model)}/release.yaml"
    log = git.run("log", f"--format={form}", commit, "--", path)
    return [Entry(*record.strip("\n").split(FIELD)) for record in log.split(RECORD) if record.strip()]


def served(git: Git, place: Place, key: str) -> Track:
    """Release `key` as stable served it last, by origin's main; LoopError where it never did."""
    for entry in history(git, place):
        stable = commits.read(git, entry.commit, place).stable
        if stable and stable.key == key:
            return stable
    fix = f"./loop history {public(place.model)} --environment {place.environment}"
    raise LoopError(f"{place}: stable has never served {key}", fix=fix)
