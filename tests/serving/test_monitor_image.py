"""The image of judge and monitor: one for each state of the repository."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from oci import CRANE, archive, attest, crane, serving

from loop.core import repository as names
from loop.core.errors import LoopError
from loop.core.files import read_json, sha256, write_json
from loop.core.project import Project
from loop.delivery import bundle, candidate
from loop.packaging import image, layout, monitor_image

pytestmark = pytest.mark.sample


@pytest.fixture
def root(tmp_path, repository):
    """The files from which the image is made."""
    for name in ("images", "src/loop/packaging", "src/loop/runtime", "argocd"):
        shutil.copytree(repository / name, tmp_path / name)
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repository / name, tmp_path)
    return tmp_path


def test_its_key_is_what_goes_in(root, monkeypatch):
    """Code, params, lock, repository.yaml and base image change the key; bytecode and other files do not."""
    known = {monitor_image.image_key(root)}
    (root / "src/loop/packaging/__pycache__").mkdir(exist_ok=True)
    (root / "src/loop/packaging/__pycache__/x.pyc").touch()
    (root / "README.md").touch()
    assert monitor_image.image_key(root) in known
    for name in ("params.yaml", "src/loop/packaging/key.py", "images/monitor/requirements.lock", names.PATH):
        (root / name).write_text((root / name).read_text() + "\n")
        known.add(monitor_image.image_key(root))
    monkeypatch.setenv("LOOP_BASE_IMAGE", "base@sha256:1")
    known.add(monitor_image.image_key(root))
    assert len(known) == 6


def test_it_is_built_once(root, engines, cache, monkeypatch):
    """It is built from only its sources, on LOOP_BASE_IMAGE; an attested image is not built again."""
    written = archive(root / "written.tar", b"layer")
    listed = f"cd $5 && find . -type f | sort > {root}/context"
    engines("buildah", f'if [ "$1" = build ]; then {listed}; else cp {written} "${{3#docker-archive:}}"; fi')
    monkeypatch.setenv("LOOP_BASE_IMAGE", "base@sha256:1")
    with serving() as host:
        names.write(root, replace(names.read(root), registry=f"{host}/team"))
        made = monitor_image.make(root, "buildah")
        assert image.push(Project(root, "monitor")) == {**made, "pushed": True}
        attest(made["image"], made["key"])
        assert monitor_image.make(root, "buildah") == {**made, "pushed": True, "attested": True}
    tag = f"{host}/team/monitor:{made['key']}"
    assert made["image"] == f"{host}/team/monitor@{made['digest']}"
    called, _ = (root / "calls").read_text().splitlines()
    assert called.startswith(f"buildah build --build-arg=BASE=base@sha256:1 --tag {tag} ")
    context = (root / "context").read_text().split()
    assert context == sorted(f"./{place}" for place, _ in monitor_image.sources(root))
    assert {"./Dockerfile", "./packages/uv", "./packages/requirements.lock", "./loop/params.yaml"} < {
        *context
    }


def test_a_users_umask_is_no_part_of_it(root, engines, cache):
    """All users can read all files, because COPY keeps modes and the image's user does not own the files."""
    for path in (root, *root.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    check = f"find . ! -perm -o=r > {root}/hidden; find . -type d ! -perm -o=x >> {root}/hidden"
    engines("buildah", f"cd $4 && {check}; find packages -type f -perm -o=x > {root}/programs; exit 1")
    before = os.umask(0o077)
    try:
        with serving() as host, pytest.raises(LoopError, match="buildah build"):
            names.write(root, replace(names.read(root), registry=f"{host}/team"))
            monitor_image.make(root, "buildah")
    finally:
        os.umask(before)
    assert (root / "hidden").read_text() == ""
    assert (root / "programs").read_text() == "packages/uv\n"


def test_what_a_bundle_says_of_the_registry_is_not_believed(root, cache, monkeypatch):
    """The building job could push an image and claim that it is attested; such an image is not released."""
    monkeypatch.setenv("PATH", str(Path(CRANE).parent), prepend=":")
    with serving() as host:
        names.write(root, replace(names.read(root), registry=f"{host}/team"))
        digest = layout.write(archive(root / "theirs.tar", b"theirs"), root / "theirs")
        name, key = f"{host}/team/monitor", monitor_image.image_key(root)
        crane("push", str(root / "theirs"), f"{name}:{key}")
        told = {"pushed": True, "attested": True, "unpacked": 1, "key": key}
        record = {"kind": "container", "image": f"{name}@{digest}", "digest": digest, **told}
        write_json(root / "build/monitor/image.json", record)
        bundle.unpack(Project(root, "monitor"), sha256(bundle.pack(Project(root, "monitor"))))
        with pytest.raises(LoopError, match="built but not pushed"):
            candidate.monitor(root)
        with pytest.raises(LoopError, match=r"image\.json names"):
            image.push(Project(root, "monitor"))


IMPORTS = """
import importlib.metadata, pkgutil, re, sys
import loop.monitoring
known = set(re.findall(r"(?m)^([a-z0-9.-]+)==", open(sys.argv[1]).read()))
owners = importlib.metadata.packages_distributions()

class Image:
    def find_spec(self, name, path=None, target=None):
        packages = {re.sub("[-_.]+", "-", each).lower() for each in owners.get(name, ())}
        if packages and not packages & known:
            raise ModuleNotFoundError(f"the image has no {name}")

sys.meta_path.insert(0, Image())
for module in pkgutil.iter_modules(loop.monitoring.__path__):
    __import__(f"loop.monitoring.{module.name}")
import loop.cli.monitoring
"""


def test_it_has_what_judge_and_monitor_import(repository):
    """The image has fewer packages than this environment, so a wrong import would fail only in the image."""
    lock = repository / monitor_image.FOLDER / "requirements.lock"
    command = [sys.executable, "-c", IMPORTS, lock]
    done = subprocess.run(command, cwd=repository / "src", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_without_an_engine_there_is_none(root):
    """The record then says that there is no image, but still has the key."""
    made = monitor_image.make(root, None)
    assert made == {"kind": "none", "image": None, "digest": None, "key": monitor_image.image_key(root)}
    assert read_json(root / "build/monitor/image.json") == made == image.push(Project(root, "monitor"))
