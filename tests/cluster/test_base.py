"""The base image is what lies in its folder, whenever and wherever it is written."""

import os
import shutil

import base
import pytest
from oci import crane, serving

pytestmark = pytest.mark.sample


@pytest.fixture
def root(tmp_path):
    """A file system with a folder, a hard link and a symbolic link."""
    folder = tmp_path / "root" / "etc"
    folder.mkdir(parents=True)
    (folder / "a").write_text("a")
    os.link(folder / "a", folder / "b")
    (folder / "c").symlink_to("a")
    return folder.parent


def written(root, out):
    out.mkdir()
    base.write(root, out)
    return (out / "manifest.json").read_bytes()


def test_equal_files_are_an_equal_digest(root, tmp_path):
    """Neither the time nor the place of the making is in it; another file is another image."""
    first = written(root, tmp_path / "1")
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / "etc/b").unlink()
    os.link(copy / "etc/a", copy / "etc/b")
    assert written(copy, tmp_path / "2") == first
    (copy / "etc/a").write_text("other")
    assert written(copy, tmp_path / "3") != first


def test_what_is_written_is_an_image(root, tmp_path):
    """A registry takes it, and each of its digests, packed and unpacked, is what a puller will find."""
    digest = base._digest(written(root, tmp_path / "out"))
    with serving() as host:
        assert base.push(tmp_path / "out", f"{host}/team") == f"{host}/team/base@{digest}"
        crane("validate", "--remote", f"{host}/team/base@{digest}")


def test_what_the_registry_has_is_not_pushed_again(root, tmp_path):
    """The name is given by the digest that is served; the layers need not be here any more."""
    out = tmp_path / "out"
    written(root, out)
    with serving() as host:
        name = base.push(out, f"{host}/team")
        for blob in out.iterdir():
            if blob.name != "manifest.json":
                blob.unlink()
        assert base.push(out, f"{host}/team") == name
        with pytest.raises(FileNotFoundError):
            base.push(out, f"{host}/other")
