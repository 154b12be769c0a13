"""A bento as an OCI artifact: the same bytes have the same digest, and changed bytes are refused."""

import json
import os
import shutil
import tarfile

import pytest

from loop.core.errors import LoopError
from loop.packaging import artifact, layout


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
    """File times, bytecode and the layout's folder do not change the digest, but a single byte does."""
    first = artifact.pack(folder, tmp_path / "one", "m", "1")
    (folder / "src" / "__pycache__").mkdir()
    (folder / "src" / "__pycache__" / "x.pyc").touch()
    os.utime(folder / "bento.yaml", (0, 0))
    assert artifact.pack(folder, tmp_path / "two", "m", "1") == first
    (folder / "bento.yaml").write_text("name: fraud_detectos\n")
    assert artifact.pack(folder, tmp_path / "two", "m", "1") != first


def test_what_is_packed_comes_back(folder, tmp_path):
    """Unpacking gives the same files and permissions."""
    digest = artifact.pack(folder, tmp_path / "layout", "m", "1")
    artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")
    assert tree(tmp_path / "into") == tree(folder)


def test_the_layout_is_one_of_oci(folder, tmp_path):
    """oci-layout and index.json exist, and every blob that is named exists under its digest with its size."""
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
    """If a manifest or a layer does not match its digest, nothing is unpacked."""
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


@pytest.mark.parametrize("damage", ["blobs", "manifest", "index", "bad JSON", "no manifests", "not a dict"])
def test_a_damaged_layout_is_refused(folder, tmp_path, damage):
    """A layout that lacks a part or has a wrong index is refused, with the command that repairs it."""
    place = tmp_path / "layout"
    digest = artifact.pack(folder, place, "m", "1")
    texts = {"bad JSON": "{", "no manifests": '{"manifests": []}', "not a dict": "[]"}
    if damage == "blobs":
        shutil.rmtree(place / "blobs")
    elif damage == "manifest":
        blob(place, digest).unlink()
    elif damage == "index":
        (place / "index.json").unlink()
    else:
        (place / "index.json").write_text(texts[damage])
    with pytest.raises(LoopError, match=r"is damaged: (?s:.*)run \./loop image MODEL"):
        artifact.unpack(place, digest, tmp_path / "into")
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize("digest", ["sha256:" + "0" * 64, "latest", "sha256:../../x"])
def test_a_digest_that_names_nothing_is_refused(folder, tmp_path, digest):
    """An unknown digest, a tag and a path are refused."""
    artifact.pack(folder, tmp_path / "layout", "m", "1")
    for place in (tmp_path / "layout", folder / "missing"):
        with pytest.raises(LoopError, match=r"run \./loop image MODEL"):
            artifact.unpack(place, digest, tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_another_kind_of_artifact_is_refused(tmp_path):
    """An intact layout of something other than a bento is not unpacked."""
    digest = layout.single(tmp_path / "layout", "text/plain", b"x")
    with pytest.raises(LoopError, match=r"is None, not 'application/vnd\.loop\.bento"):
        artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")


@pytest.mark.parametrize(
    ("names", "wrong"),
    [(["../outside"], r"\.\./outside"), (["bento.yaml", "./bento.yaml"], r"\./bento\.yaml")],
)
def test_a_file_that_would_land_outside_or_on_another_is_refused(folder, tmp_path, monkeypatch, names, wrong):
    """A layer with `../` in a file's name, or with a file twice, is refused, even if its digest is right."""

    def forged(_, to):
        with tarfile.open(to, "w:gz") as tar:
            for name in names:
                tar.add(folder / "bento.yaml", name)

    monkeypatch.setattr(artifact, "_tar", forged)
    digest = artifact.pack(folder, tmp_path / "layout", "m", "1")
    with pytest.raises(LoopError, match=f"unexpected file '{wrong}'"):
        artifact.unpack(tmp_path / "layout", digest, tmp_path / "into")
    assert not list(tmp_path.rglob("outside"))
