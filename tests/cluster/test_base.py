"""The base image depends only on the files in its folder, not on the time or place of its making."""

import os
import shutil

import base
import pytest
from oci import crane, serving

pytestmark = pytest.mark.sample


@pytest.fixture
def root(tmp_path):
    """Make a file system with a folder, a hard link and a symbolic link."""
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


def test_equal_files_give_an_equal_digest(root, tmp_path):
    """Equal files give the same image at any time and place, and other files give another image."""
    first = written(root, tmp_path / "1")
    copy = tmp_path / "copy"
    shutil.copytree(root, copy, symlinks=True, copy_function=shutil.copyfile)
    (copy / "etc/b").unlink()
    os.link(copy / "etc/a", copy / "etc/b")
    assert written(copy, tmp_path / "2") == first
    (copy / "etc/a").write_text("other")
    assert written(copy, tmp_path / "3") != first


def test_a_registry_accepts_the_image(root, tmp_path):
    """A registry accepts the image, and its digests match its layers, compressed and uncompressed."""
    digest = base._digest(written(root, tmp_path / "out"))
    with serving() as host:
        assert base.push(tmp_path / "out", f"{host}/team") == f"{host}/team/base@{digest}"
        crane("validate", "--remote", f"{host}/team/base@{digest}")


def test_an_image_is_not_pushed_twice(root, tmp_path):
    """An image that the registry already has is not pushed again, so its layers need not exist any more."""
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
