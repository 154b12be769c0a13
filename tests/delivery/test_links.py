"""A symbolic link is refused wherever files are hashed or packed, as it could lead outside the clone."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from loop.candidate import register
from loop.core.errors import LoopError
from loop.core.files import write_json
from loop.core.project import Project
from loop.delivery import bundle
from loop.packaging import artifact, bento, key, monitor_image

pytestmark = pytest.mark.sample


def registry(root: Path) -> register._Registry:
    return register._Registry(SimpleNamespace(ask=None), Project(root, "m"), "m", "0")


PACKERS = {
    "release key": ("bentos/m/x", lambda root: dict(key.sources(Project(root, "m")))),
    "a bento's folder": ("bentos/m", lambda root: dict(key.sources(Project(root, "m")))),
    "packed code": ("src/loop/runtime/x.py", lambda root: dict(key.sources(Project(root, "m")))),
    "monitor's code": ("src/loop/x.py", lambda root: dict(monitor_image.sources(root))),
    "monitor's params": ("params.yaml", lambda root: dict(monitor_image.sources(root))),
    "monitor's lock": ("images/monitor/requirements.lock", lambda root: dict(monitor_image.sources(root))),
    "a bento's model": (
        "data/m/model/x",
        lambda root: bento.stage(Project(root, "m"), "k", root / "context"),
    ),
    "a bento's reference": (
        "data/m/reference.parquet",
        lambda root: bento.stage(Project(root, "m"), "k", root / "context"),
    ),
    "artifact": ("stored/x", lambda root: artifact.pack(root / "stored", root / "layout", "m", "k")),
    "registered model": ("data/m/model/x", lambda root: registry(root)._logged({})),
    "registered plots": ("data/m/plots/x", lambda root: registry(root)._logged({})),
    "bundle": ("build/monitor/image.json", lambda root: bundle.pack(Project(root, "monitor"))),
    "bundle of a folder": ("build/monitor", lambda root: bundle.pack(Project(root, "monitor"))),
}


@pytest.mark.parametrize("packer", PACKERS)
def test_a_link_is_refused_by_its_path(tmp_path: Path, packer: str) -> None:
    """The error names the link's path, and the command that removes the link."""
    (at, pack), outside = PACKERS[packer], tmp_path / "outside"
    root = tmp_path / "clone"
    for name in (
        "bentos/m",
        "src/loop/runtime",
        "data/m/model",
        "data/m/plots",
        "stored",
        "images/monitor",
    ):
        (root / name).mkdir(parents=True)
    (root / "params.yaml").write_text("models: {}\n")
    write_json(outside / "secret", {})
    write_json(outside / "image.json", {"kind": "none", "image": None, "key": "k"})
    path = root / at
    if path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(outside if packer.endswith("folder") else outside / "image.json")
    with pytest.raises(LoopError, match=f"{path} is a symbolic link.*\n  fix: .*rm {path}"):
        pack(root)
