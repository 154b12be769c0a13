"""Compares hashed lock files: which packages were added, removed or changed in version."""

import re
from collections.abc import Iterable
from pathlib import Path

from loop.core import edited

PACKAGE = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")


def changes(before: Path, after: Path, locks: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Return (lock, package, version before, version after) of each difference; "-" stands for no version."""
    found = []
    for lock in locks:
        old, new = _packages(before / lock), _packages(after / lock)
        both = ((name, old.get(name, "-"), new.get(name, "-")) for name in sorted({*old, *new}))
        found += [(lock, name, was, now) for name, was, now in both if was != now]
    return found


def _packages(lock: Path) -> dict[str, str]:
    if not lock.is_file():
        return {}
    return dict(PACKAGE.findall(edited.read(lock, str(lock), "make lock")))
