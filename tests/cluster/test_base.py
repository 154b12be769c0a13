"""The base image is what lies in its folder, whenever and wherever it is written."""

import json
import os
import shutil

import base
import httpx
import pytest
from oci import serving

from loop.serving.registry import Registry


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
    """Its layer's digests, packed and unpacked, are what a puller will find."""
    out = tmp_path / "out"
    manifest = json.loads(written(root, out))
    with serving() as held:
        held.content |= {f"sha256:{path.name}": path.read_bytes() for path in out.iterdir()}
        digest = base._digest((out / "manifest.json").read_bytes())
        held.content[digest] = (out / "manifest.json").read_bytes()
        with Registry(f"{held.host}/base") as registry:
            (layer,) = registry.layers(digest)
    assert (layer.packed, layer.made_by) == (manifest["layers"][0]["size"], "tools/cluster/base")


def test_what_the_registry_has_is_not_pushed_again(root, tmp_path):
    """The name is given by the digest that is served; a registry that is read only is enough."""
    out = tmp_path / "out"
    content = written(root, out)
    with serving() as held:
        with pytest.raises(httpx.HTTPStatusError):
            base.push(out, f"{held.host}/team")
        held.content[base._digest(content)] = content
        assert base.push(out, f"{held.host}/team") == f"{held.host}/team/base@{base._digest(content)}"
