"""The history of an environment: which release it served when and why, read from Git's log."""

from loop.core.errors import LoopError
from loop.core.git import Git
from loop.core.names import public
from loop.core.release_state import Track, file, recall
from loop.core.results import Entry
from loop.delivery.commit import Now, Place

TRAILERS = ("Action", "Step", "Release-Key", "Digest", "Why")
FIELD, RECORD = "\x1f", "\x1e"


def history(git: Git, place: Place, branch: str = "main") -> list[Entry]:
    """Return every change of a model in an environment on origin's branch, newest first."""
    return changes(git, place, git.fetch(branch))


def changes(git: Git, place: Place, commit: str) -> list[Entry]:
    """Return every change of a model in an environment up to a commit, newest first.

    Changes that a person committed have empty fields for action, step, key, digest and why.
    """
    trailers = [f"%(trailers:key={name},valueonly,separator= )" for name in TRAILERS]
    form = FIELD.join(["%H", "%cI", "%an", "%s", *trailers]) + RECORD
    path = file(place.environment, place.model)
    log = git.run("log", f"--format={form}", commit, "--", path)
    return [Entry(*record.strip("\n").split(FIELD)) for record in log.split(RECORD) if record.strip()]


def served(git: Git, place: Place, key: str, now: Now) -> Track:
    """Return release `key` as stable last served it, from main's history.

    A state that cannot be read, for instance in an older format, is skipped and noted in `now`. Raises
    LoopError if stable has never served the release.
    """
    path = file(place.environment, place.model)
    for entry in changes(git, place, now.commit):
        try:
            found = recall(git.read(entry.commit, path) or "", "stable", key)
        except LoopError as error:
            now.notes.append(f"skipped the release state of {entry.commit[:12]}: {error}")
            continue
        if found:
            return found
    fix = f"./loop history {public(place.model)} --environment {place.environment}"
    said = "; ".join([f"{place}: stable has never served {key}", *now.notes])
    raise LoopError(said, fix=fix, docs="docs/runbooks/production.md#bring-an-older-release-back")
