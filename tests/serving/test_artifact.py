"""A bento as an OCI artifact: same bytes, same digest; other bytes are refused."""

import json
import os
import tarfile

import pytest

from loop.core.errors import LoopError
from loop.packaging import artifact


@pytest.fixture
def folder(tmp_path):
    """Something like a bento."""
    made = tmp_path / "bento"
    (made / "src").mkdir(parents=True)
    (made / "bento.yaml").write_text("name: card_fraud\n")
    (made / "src" / "entrypoint.sh").write_text("#!/bin/sh\n")
    (made / "src" / "entrypoint.sh").chmod(0o755)
    return made


def blob(layout, digest):
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def tree(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mode & 0o111) for p in files}


def test_the_same_bento_is_the_same_digest(folder, tmp_path):
    """Times, bytecode and the layout it goes into make no difference; one byte does."""
    first = artifact.pack(folder, tmp_path / "one", "m", "1")
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "x.pyc").touch()
    os.utime(folder / "bento.yaml", (0, 0))
    assert artifact.pack(folder, tmp_path / "two", "m", "1") == first
    (folder / "bento.yaml").write_text("name: fraud_detectos\n")
    assert artifact.pack(folder, tmp_path / "two", "m", "1") != first


def test_what_is_packed_comes_back(folder, tmp_path):
    """Unpack gives the same files and permissions, for each of two versions in one layout."""
    before = tree(folder)
    first = artifact.pack(folder, tmp_path / "layout", "m", "1")
    (folder / "bento.yaml").write_text("name: other\n")
    second = artifact.pack(folder, tmp_path / "layout", "m", "2")
    assert tree(artifact.unpack(tmp_path / "layout", first, tmp_path / "first")) == before
    assert tree(artifact.unpack(tmp_path / "layout", second, tmp_path / "second")) == tree(folder)


def test_the_layout_is_one_of_oci(folder, tmp_path):
    """oci-layout and index.json are there, and everything that they name is there by digest and size."""
    layout = tmp_path / "layout"
    digest = artifact.pack(folder, layout, "m", "1")
    assert artifact.pack(folder, layout, "m", "1") == digest
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    assert entry["digest"] == digest
    manifest = json.loads(blob(layout, digest).read_text())
    for described in (entry, manifest["config"], *manifest["layers"]):
        assert blob(layout, described["digest"]).stat().st_size == described["size"]


@pytest.mark.parametrize("part", ["manifest", "layer"])
def test_a_changed_byte_is_refused(folder, tmp_path, part):
    """Nothing is unpacked from a manifest or a layer whose content is not its digest's."""
    digest = artifact.pack(folder, tmp_path / "layout", "m", "1")
    manifest = blob(tmp_path / "layout", digest)
    layer = blob(tmp_path / "layout", json.loads(manifest.read_text())["layers"][0]["digest"])
    changed = manifest if part == "manifest" else layer
    content = bytearray(changed.read_bytes())
    content[-5] ^= 1
    changed.write_bytes(content)
    with pytest.raises(LoopError, match="was changed"):
        artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")
    assert not (tmp_path / "into").exists()


CHANGES = {
    "a changed file": (
        lambda into: (into / "bento.yaml").write_text("name: other\n"),
        "bento.yaml was changed",
    ),
    "another mode": (lambda into: (into / "bento.yaml").chmod(0o755), "bento.yaml was changed"),
    "a file too few": (lambda into: (into / "bento.yaml").unlink(), "bento.yaml is missing"),
    "bytecode": (
        lambda into: (into / "src/__pycache__").mkdir() or (into / "src/__pycache__/x.pyc").touch(),
        "x.pyc was added",
    ),
    "a link": (lambda into: (into / "x").symlink_to("bento.yaml"), "is a symbolic link"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_it_was_unpacked_is_found(folder, tmp_path, change):
    """What lies unpacked in a cache is compared with the artifact before it is used again."""
    layout, (spoil, said) = tmp_path / "layout", CHANGES[change]
    digest = artifact.pack(folder, layout, "m", "1")
    into = artifact.unpack(layout, digest, tmp_path / "into")
    assert artifact.changed(layout, digest, into) == ""
    spoil(into)
    assert said in artifact.changed(layout, digest, into)


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "latest", "sha256:../../x"])
def test_a_digest_that_names_nothing_is_refused(folder, tmp_path, digest):
    """A digest that is missing, a tag, or a path is refused."""
    artifact.pack(folder, tmp_path / "layout", "m", "1")
    with pytest.raises(LoopError, match=r"digest|has no"):
        artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")


def test_a_file_that_would_land_outside_is_refused(folder, tmp_path, monkeypatch):
    """A layer with ../ in a name is refused even where its digest fits."""

    def escaping(_, to):
        with tarfile.open(to, "w:gz") as tar:
            tar.add(folder / "bento.yaml", "../outside")

    monkeypatch.setattr(artifact, "_tar", escaping)
    digest = artifact.pack(folder, tmp_path / "layout", "m", "1")
    with pytest.raises(LoopError, match="not a plain file inside"):
        artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")
    assert not list(tmp_path.rglob("outside"))
