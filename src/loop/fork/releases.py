"""Finds the newest release of the template by the Git tags of its repository, without GitHub's API."""

import os
import re
from dataclasses import dataclass

from loop.core import edited
from loop.core.git import Git
from loop.fork import lean
from loop.version import VERSION

SETTING = "LOOP_TEMPLATE"  # the template's URL, for forks with the source, whose lock pins no wheel
WHEEL = re.compile(r"(.+)/releases/download/v[^/]+/loop-[^/]+\.whl")
TAG = re.compile(  # git adds ^{} to a line that has the commit of an annotated tag
    r"^([0-9a-f]+)\trefs/tags/v(\d+\.\d+\.\d+)(?:\^\{\})?$", re.MULTILINE
)


@dataclass(frozen=True)
class Release:
    """A version, and its source for `loop upgrade`. If `source` is empty, `why` gives the reason."""

    version: str = ""
    source: str = ""
    why: str = ""


def newest(git: Git) -> Release:
    """Return the template's newest release if it is newer than this engine.

    Raises GitError if the template's repository does not respond.
    """
    lock = edited.read(git.root / lean.LOCK, lean.LOCK, "restore it from the template")
    pin = lean.url(lean.found(lock).get("loop", ""))
    released = WHEEL.fullmatch(pin)
    place = released[1] if released else "" if pin else os.environ.get(SETTING, "")
    if not place:
        where = f"{lean.LOCK} pins {pin}, which is not a release" if pin else f"{SETTING} is not set"
        return Release(why=f"{where}, so newer releases cannot be found; use --to SOURCE")
    tags = TAG.findall(git.run("ls-remote", "--tags", place, "v*"))
    # git lists an annotated tag first and then the commit that it points to, which is the entry that stays
    commits = {version: commit for commit, version in tags}
    version = max(commits, key=order, default=VERSION)
    if order(version) <= order(VERSION):
        return Release(why=f"{place} has no release newer than {VERSION}")
    if released:
        return Release(version, pin.replace(VERSION, version))
    git.run("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", place, f"refs/tags/v{version}")
    return Release(version, f"commit:{commits[version]}")


def order(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, by which versions are sorted."""
    return tuple(map(int, re.findall(r"\d+", version)))
