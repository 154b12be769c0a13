"""What an environment served, when and why: the log of its release state, by the commits' trailers."""

from dataclasses import dataclass

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.delivery.commit import Now, Place
from loop.delivery.state import Track, folder, recall

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
    path = release_of(place)
    log = git.run("log", f"--format={form}", commit, "--", path)
    return [Entry(*record.strip("\n").split(FIELD)) for record in log.split(RECORD) if record.strip()]


def served(git: Git, place: Place, key: str, now: Now) -> Track:
    """Release `key` as stable served it last, by the history of main; LoopError where it never did.

    A state that cannot be read is skipped and noted: the format may have been another when it was written.
    """
    for entry in changes(git, place, now.commit):
        try:
            found = recall(git.read(entry.commit, release_of(place)) or "", "stable", key)
        except LoopError as error:
            now.notes.append(f"skipped the state of {entry.commit[:12]}: {error}")
            continue
        if found:
            return found
    fix = f"./loop history {public(place.model)} --environment {place.environment}"
    said = "; ".join([f"{place}: stable has never served {key}", *now.notes])
    raise LoopError(said, fix=fix, docs="docs/runbooks/production.md#bring-an-older-release-back")


def release_of(place: Place) -> str:
    """The path of a place's release.yaml."""
    return f"{folder(place.environment, place.model)}/release.yaml"
