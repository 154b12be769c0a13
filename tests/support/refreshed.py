"""`refresh-lock` at the stand-in: it resolves anew, from a folder of hollow wheels instead of PyPI."""

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


def hollow(folder: Path, name: str, version: str) -> None:
    """A wheel that has a name and a version, and needs and holds nothing."""
    stem = f"{re.sub('[-_.]+', '_', name)}-{version}"
    with ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        about = f"{stem}.dist-info"
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")


def settings(folder: Path) -> dict[str, object]:
    """Variables of uv: it has all that the locks pin, a click that they do not know, and no network."""
    (wheels := folder / "wheels").mkdir()
    pinned = {found for lock in locks() for found in PINNED.findall((ROOT / lock).read_text())}
    for name, version in {*pinned, ("click", "99.0")}:
        hollow(wheels, name, version)
    for name, version in pinned:
        if (
            name in (ROOT / "tools/environment").read_text()
        ):  # it has no wheel, and nobody looks into its source
            (wheels / f"{name}-{version}.tar.gz").write_bytes(b"")
    return {"UV_OFFLINE": 1, "UV_FIND_LINKS": wheels, "UV_CACHE_DIR": folder / "uv"}


def begun(standin: StandIn, folder: Path) -> Clone:
    """A person's clone of this work tree, pushed to the repository; nothing has run."""
    work_tree(folder / "work-tree")
    tree = Clone(folder / "work-tree")
    tree.git("init", "-q", "-b", "main")
    tree.commit("begin", {})
    tree.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    return standin.clone(folder / "clone")


def proposed(standin: StandIn, clone: Clone, why: str, runs: int = 1) -> None:
    """Wait for so many runs of the workflow; what they left."""
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
