"""What a change does to the hashed locks: packages that came, went or moved."""

import re
from pathlib import Path

PACKAGE = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")


def changes(before: Path, after: Path, model: str) -> list[tuple[str, str, str, str]]:
    """(lock, package, version before, version after) of each difference; "-" where a side has none."""
    found = []
    for lock in ("requirements.lock", f"bentos/{model}/requirements.lock"):
        old, new = _packages(before / lock), _packages(after / lock)
        found += [
            (lock, name, old.get(name, "-"), new.get(name, "-"))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        ]
    return found


def _packages(lock: Path) -> dict[str, str]:
    return dict(PACKAGE.findall(lock.read_text(encoding="utf-8"))) if lock.is_file() else {}
