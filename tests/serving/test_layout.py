"""A registry serves exactly the image that an engine wrote, and its digest is known before the push."""

import pytest
from oci import archive, crane, serving

from loop.core.errors import LoopError
from loop.packaging import layout
from loop.packaging.registry import Registry

BYTES = b"a" * 100_000


@pytest.mark.parametrize("packed", ["", "gzip", "zstd"])
def test_layers_are_told_however_the_engine_packed_them(tmp_path, packed):
    """A plain, a gzip and a zstd layer of the same bytes give the same image, with the same size."""
    digest = layout.write(archive(tmp_path / "image.tar", BYTES, packed=packed), tmp_path / "image")
    assert digest == layout.write(archive(tmp_path / "plain.tar", BYTES), tmp_path / "plain")
    manifest = layout.manifest(tmp_path / "image", digest)
    assert layout.unpacked(manifest) == 100_000
    assert manifest["layers"][0]["size"] < 1000


def test_an_image_without_history_is_one(tmp_path):
    """Its layers have sizes, too, which sum up to the image's."""
    written = archive(tmp_path / "image.tar", BYTES, b"b", history=False)
    digest = layout.write(written, tmp_path / "image")
    assert layout.unpacked(layout.manifest(tmp_path / "image", digest)) == 100_001


def test_the_digest_is_the_one_that_the_registry_will_serve(tmp_path, repository):
    """The registry serves the image under that digest, every blob is valid, and so is the size."""
    tar = archive(tmp_path / "layer.tar").read_bytes()
    digest = layout.write(archive(tmp_path / "image.tar", tar), tmp_path / "image")
    with serving() as host:
        registry = Registry(f"{host}/team/x")
        assert registry.digest("k1") is None
        registry.push(tmp_path / "image", "k1")
        assert registry.digest("k1") == registry.digest(digest) == digest
        assert layout.unpacked(registry.manifest(digest)) == len(tar)
        crane("validate", "--remote", f"{host}/team/x:k1")


def test_a_layout_that_was_changed_is_none(tmp_path):
    """A layout with a changed or missing blob is refused."""
    digest = layout.write(archive(tmp_path / "image.tar", BYTES), tmp_path / "image")
    assert layout.verify(tmp_path / "image") == digest
    (name,) = (one["digest"] for one in layout.manifest(tmp_path / "image", digest)["layers"])
    blob = tmp_path / "image/blobs" / name.replace(":", "/")
    blob.write_bytes(blob.read_bytes() + b"x")
    with pytest.raises(LoopError, match="was changed"):
        layout.verify(tmp_path / "image")
    blob.unlink()
    with pytest.raises(LoopError, match=f"has no {name}"):
        layout.verify(tmp_path / "image")
    (tmp_path / "image/index.json").write_text("{")
    with pytest.raises(LoopError, match=r"is damaged: (?s:.*)build it again"):
        layout.verify(tmp_path / "image")


def test_a_layer_that_is_not_what_the_config_says_is_refused(tmp_path):
    """An image whose layers do not match its configuration is refused."""
    written = archive(tmp_path / "image.tar", BYTES)
    written.write_bytes(written.read_bytes().replace(b"aaaa", b"bbbb"))
    with pytest.raises(LoopError, match="its config"):
        layout.write(written, tmp_path / "image")
    assert not (tmp_path / "image").exists()


def test_an_archive_of_two_images_is_refused(tmp_path):
    """An archive with two images, as an engine writes for several platforms, is refused."""
    with pytest.raises(LoopError, match="has 2 images, should be one"):
        layout.write(archive(tmp_path / "image.tar", BYTES, images=2), tmp_path / "image")
