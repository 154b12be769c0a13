"""The image that is made with and without a container engine. The engines here are fakes."""

import json
import re
import shutil
from fcntl import LOCK_NB
from pathlib import Path

import pytest
from oci import CRANE, archive, attest, crane, serving

from loop.core import repository as names
from loop.core.errors import LoopError, Rejected
from loop.core.files import locked, read_json, whole, write_json
from loop.core.project import Project
from loop.packaging import image, layout
from loop.packaging.bento import Bento
from loop.packaging.registry import Registry

pytestmark = pytest.mark.sample


@pytest.fixture
def host():
    """An empty registry."""
    with serving() as host:
        yield host


@pytest.fixture
def root(tmp_path, monkeypatch, host):
    """A repository with that registry, and a bento that is already built."""
    (tmp_path / "argocd").mkdir()
    (tmp_path / names.PATH).write_text(
        f"data: {{name: x, url: 'https://example.test/team/x.git', registry: '{host}/team'}}\n"
    )
    (tmp_path / "bento").mkdir()
    (tmp_path / "bento" / "bento.yaml").touch()
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def built(root, engines, monkeypatch):
    """A function that sets the image which the engine saves; at first an image with one layer."""

    def one(layer=b"layer", **options):
        written = archive(root / "written.tar", layer, **options)
        engines("docker", f'[ "$1" = save ] && cp {written} "$3"')

    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    one()
    return one


def made(root, program):
    return image.make(Project(root, "card-fraud"), Bento("k1", "card_fraud:k1", root / "bento"), program)


def calls(root):
    return (root / "calls").read_text().splitlines() if (root / "calls").exists() else []


def test_an_image_is_built_without_the_registry_and_pushed_as_its_record_says(built, root, host, monkeypatch):
    """`bentoml containerize` builds it; its record has the size and the digest that is pushed."""
    monkeypatch.setenv("LOOP_BUILD_OPTIONS", "network=host")
    answer = made(root, "docker")
    name = f"{host}/team/card-fraud"
    assert (answer["kind"], answer["image"]) == ("container", f"{name}@{answer['digest']}")
    assert answer["unpacked"] == 5
    called, saved = calls(root)
    asked = f"--backend docker --image-tag {name}:k1 --opt=network=host"
    assert called == f"python -m bentoml containerize card_fraud:k1 {asked}"
    assert saved.startswith("docker save ")
    registry = Registry(name, CRANE)
    assert registry.digest("k1") is None
    assert not answer["pushed"]
    for _ in ("pushed", "again"):
        assert image.push(Project(root, "card-fraud")) == {**answer, "pushed": True}
        assert registry.digest("k1") == answer["digest"]


def test_what_a_release_has_attested_is_neither_built_nor_pushed_again(built, root):
    """Size and digest are read from the registry, so no local layout is needed."""
    answer = made(root, "docker")
    image.push(Project(root, "card-fraud"))
    attest(answer["image"], "k1")
    shutil.rmtree(root / "build")
    (root / "calls").unlink()
    found = {**answer, "pushed": True, "attested": True}
    assert made(root, "docker") == found == image.push(Project(root, "card-fraud"))
    assert not calls(root)


@pytest.mark.parametrize("attested_for", [None, "k2"])
def test_a_tag_that_somebody_else_pushed_is_not_taken(built, root, host, attested_for):
    """An image that is not attested, or is attested for another key, is replaced by a new one."""
    name = f"{host}/team/card-fraud"
    layout.write(archive(root / "theirs.tar", b"theirs"), root / "theirs")
    crane("push", str(root / "theirs"), f"{name}:k1")
    theirs = Registry(name, CRANE).digest("k1")
    if attested_for:
        attest(f"{name}@{theirs}", attested_for)
    answer = made(root, "docker")
    assert answer["digest"] != theirs
    assert not answer["pushed"]
    assert image.push(Project(root, "card-fraud")) == {**answer, "pushed": True}
    assert Registry(name, CRANE).digest("k1") == answer["digest"]


def test_of_two_builds_the_one_that_was_attested_first_stays(built, root):
    """The other build's record then names it, because Git must name the image that is served."""
    first = made(root, "docker")
    aside = root / "build/aside"
    (root / "build/card_fraud").rename(aside)
    built(b"of another time")
    made(root, "docker")
    second = image.push(Project(root, "card-fraud"))
    assert second["digest"] != first["digest"]
    attest(second["image"], "k1")
    shutil.rmtree(root / "build/card_fraud")
    aside.rename(root / "build/card_fraud")
    followed = {**second, "attested": True}
    assert image.push(Project(root, "card-fraud")) == followed
    assert read_json(root / "build/card_fraud/image.json") == followed


def test_a_push_that_was_killed_ends_well_when_it_is_run_again(built, root, host):
    """A push that was killed after its layers and before its manifest succeeds when it is run again."""
    answer = made(root, "docker")
    name = f"{host}/team/card-fraud"
    crane("push", str(root / "build/card_fraud/image"), f"{name}:half")
    crane("delete", f"{name}:half")
    crane("delete", answer["image"])
    assert Registry(name, CRANE).digest(answer["digest"]) is None
    assert image.push(Project(root, "card-fraud")) == {**answer, "pushed": True}


def test_a_digest_that_the_registry_does_not_serve_is_no_image(built, root, engines):
    """A push fails if the registry does not serve the digest afterwards."""
    made(root, "docker")
    (root / "bin/crane").unlink()
    engines("crane", f'[ "$1" = push ] || exec {CRANE} "$@"')
    with pytest.raises(LoopError, match=r"was pushed, but the registry does not serve it"):
        image.push(Project(root, "card-fraud"))


@pytest.mark.parametrize("what", ["another name", "another digest", "a changed layer", "no layout"])
def test_only_what_the_record_names_is_pushed(built, root, host, what):
    """A record that names another image, and a layout that was changed, are not pushed."""
    path = root / "build/card_fraud/image.json"
    record, blobs = made(root, "docker"), path.parent / "image"
    digest = record["digest"]
    if what == "another name":
        record["image"] = f"{host}/team/other@{digest}"
    elif what == "another digest":
        record |= {"image": record["image"].replace(digest[7:], "a" * 64), "digest": "sha256:" + "a" * 64}
    elif what == "a changed layer":
        (layer,) = (
            blob for blob in blobs.rglob("*") if blob.is_file() and blob.read_bytes()[:2] == b"\x1f\x8b"
        )
        layer.write_bytes(layer.read_bytes() + b"x")
    else:
        shutil.rmtree(blobs)
    write_json(path, record)
    with pytest.raises(LoopError, match=r"image\.json names|was changed"):
        image.push(Project(root, "card-fraud"))
    assert Registry(f"{host}/team/card-fraud", CRANE).digest("k1") is None


def test_an_image_is_for_the_nodes(built, root, monkeypatch, capsys):
    """An image for another platform than LOOP_PLATFORM is an error; if that is not set, a warning."""
    built(machine="arm64")
    made(root, "docker")
    said = capsys.readouterr().err
    assert "linux/amd64 nodes cannot run" in said
    assert "LOOP_BUILD_OPTIONS=platform=linux/amd64" in said
    monkeypatch.setenv("LOOP_PLATFORM", "linux/arm64")
    made(root, "docker")
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("LOOP_PLATFORM", "linux/amd64")
    with pytest.raises(
        LoopError, match="is for linux/arm64, but LOOP_PLATFORM says that the nodes are linux/amd64"
    ):
        made(root, "docker")


def test_an_image_over_the_limit_is_rejected(built, root, monkeypatch):
    """The uncompressed size counts."""
    monkeypatch.setattr(image, "MOST", {"cpu": 1_000_000})
    built(b"\0" * 1_000_001)
    with pytest.raises(Rejected, match="1 MB uncompressed, may be 1"):
        made(root, "docker")
    assert not (root / "build/card_fraud/image.json").exists()


def test_one_process_keeps_an_artifact_that_others_read(root, monkeypatch):
    """A second one waits, and replaces what is there only if that is damaged."""
    writes = []

    def write(path):
        with pytest.raises(BlockingIOError), locked(path.parent, LOCK_NB):
            pass
        writes.append(path)
        return whole(path)

    kept = Path(made(root, None)["layout"])
    monkeypatch.setattr(image, "whole", write)
    assert made(root, None)["layout"] == str(kept)
    assert writes == []
    (kept / "index.json").unlink()
    assert made(root, None)["layout"] == str(kept)
    assert writes == [kept]
    assert (kept / "index.json").is_file()


def test_without_an_engine_the_bento_itself_is_pinned(root, host):
    """The digest names an artifact on disk, from which `fetch` restores the bento."""
    answer = made(root, None)
    assert answer["kind"] == "bento-artifact"
    assert answer["image"] == f"{host}/team/card-fraud@{answer['digest']}"
    for _ in ("first", "changed"):
        unpacked = image.fetch("card-fraud", answer["digest"]) / "bento.yaml"
        assert unpacked.read_text() == ""
        unpacked.write_text("another")
    assert image.push(Project(root, "card-fraud")) == answer
    assert Registry(f"{host}/team/card-fraud", CRANE).digest("k1") is None
    for wrong in ("latest", "sha256:../../x"):
        with pytest.raises(LoopError, match="is not a digest"):
            image.fetch("card-fraud", wrong)


def base(text):
    """Return the base image that a Dockerfile or a bento's service names."""
    (name,) = re.findall(r"docker\.io/\S+?(?=[\"\s])", text)
    (digest,) = re.findall(r"@sha256:[0-9a-f]{64}", text)
    return name.removesuffix(digest) + digest


@pytest.mark.contract
def test_every_image_stands_on_a_base_by_digest(repository):
    """The monitor has the same base as a bento, so that a node pulls it only once."""
    bentos, others = repository.glob("bentos/*/service.py"), repository.glob("images/*/Dockerfile")
    assert {base(path.read_text()) for path in others} <= {base(path.read_text()) for path in bentos}


def test_an_image_is_built_by_the_uv_of_the_environment(repository):
    """The lock of uv in the bento is the one that `make lock` writes."""
    packed = repository / "src/loop/runtime/uv.lock"
    assert packed.read_text() == (repository / "tools/uv.lock").read_text()


def test_nothing_stays_of_what_installs(template, monkeypatch):
    """Our uv is installed before BentoML's own step, and removed in the last step."""
    from loop.runtime.image import pinned

    monkeypatch.setenv("LOOP_BASE_IMAGE", "base@sha256:1")
    lock = template / "bentos/card_fraud/requirements.lock"
    found = pinned(lock, "other")
    assert found.base_image == "base@sha256:1"
    assert "> /usr/local/bin/uv &&" in found.commands[0]
    assert "--require-hashes" in found.commands[0]
    assert "pip.no-build = true" in found.commands[0]
    assert "\n" not in json.dumps(found.commands[0])
    assert found.post_commands == ["rm /usr/local/bin/uv /usr/local/bin/uv.lock"]
