"""Runs `refresh-lock` at the stand-in, where it resolves the locks from a folder of empty wheels."""

import re
import subprocess
from pathlib import Path
from zipfile import ZipFile

from standin import ROOT, Clone, StandIn
from trained import work_tree

PINNED = re.compile(r"(?m)^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)")


def locks() -> list[str]:
    listed = subprocess.check_output(["git", "ls-files", "*.lock"], cwd=ROOT, text=True).split()
    return [path for path in listed if path != "dvc.lock"]


def empty_wheel(folder: Path, name: str, version: str) -> None:
    """Write a wheel that has a name and a version, but no dependencies and no code."""
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    with ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        about = f"{stem}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def settings(folder: Path) -> dict[str, object]:
    """Return variables that give uv all that the locks pin, one newer click, and no network."""
    (wheels := folder / "wheels").mkdir()
    pinned = {found for lock in locks() for found in PINNED.findall((ROOT / lock).read_text())}
    for name, version in {*pinned, ("click", "99.0")}:
        empty_wheel(wheels, name, version)
    for name, version in pinned:
        # PyPI has only the source of a package that tools/environment names, and nothing reads that source.
        if name in (ROOT / "tools/environment").read_text():
            (wheels / f"{name}-{version}.tar.gz").write_bytes(b"")
    return {"UV_OFFLINE": 1, "UV_FIND_LINKS": wheels, "UV_CACHE_DIR": folder / "uv"}


def begun(standin: StandIn, folder: Path) -> Clone:
    """Push this work tree to the repository without starting a workflow, and return a person's clone."""
    work_tree(folder / "work-tree")
    tree = Clone(folder / "work-tree")
    tree.git("init", "-q", "-b", "main")
    tree.commit("begin", {})
    tree.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return standin.clone(folder / "clone")


def proposed(standin: StandIn, clone: Clone, why: str, runs: int = 1) -> None:
    """Wait for `runs` runs of the workflow; check its one pull request, whose one commit updates click."""
    refreshed, *_ = standin.finished("refresh-lock.yml", runs)
    assert refreshed["conclusion"] == "success", standin.log(refreshed)
    (pull,) = standin.ask("GET", "/pulls").json()
    assert pull["head"]["ref"] == "refresh-lock"
    assert standin.as_("person").runs("ci.yml")[0]["head_branch"] == "refresh-lock"
    clone.git("fetch", "-q", "origin", "main", "refresh-lock")
    tip = "origin/refresh-lock"
    assert clone.git("rev-list", "--count", f"origin/main..{tip}").stdout == "1\n"
    changed = clone.git("diff", "--name-only", "origin/main", tip).stdout.split()
    assert set(changed) <= set(clone.git("ls-files", "*.lock").stdout.split()) - {"dvc.lock"}
    before, after = (
        set(PINNED.findall(clone.git("show", f"{commit}:requirements.lock").stdout))
        for commit in ("origin/main", tip)
    )
    assert after - before == {("click", "99.0")}
    assert f"Why: {why}" in clone.git("log", "-1", "--format=%B", tip).stdout
