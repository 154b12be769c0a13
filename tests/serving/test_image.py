"""What is made where an engine runs, and where none does. The engines here are stand-ins: shapes only."""

import json
import re

import pytest
from oci import serving

from loop.core import repository as names
from loop.core.errors import LoopError, Rejected
from loop.serving import engine, image
from loop.serving.bento import Bento


@pytest.fixture
def held():
    """An empty registry."""
    with serving() as held:
        yield held


@pytest.fixture
def root(tmp_path, monkeypatch, held):
    """A repository with that registry, and a bento that needs no building."""
    (tmp_path / "argocd").mkdir()
    (tmp_path / names.PATH).write_text(
        f"data: {{name: x, url: 'https://example.test/team/x.git', registry: '{held.host}/team'}}\n"
    )
    (tmp_path / "bento").mkdir()
    (tmp_path / "bento" / "bento.yaml").touch()
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def made(root, program):
    return image.make(root, "fraud-detector", Bento("k1", "fraud_detector:k1", root / "bento"), program)


def push(held, monkeypatch, layer=b"layer"):
    """Let the engine's push put an image of one layer into the registry."""
    monkeypatch.setattr(engine, "push", lambda _, tag: held.add(tag.rpartition(":")[2], layer))


def test_an_image_is_containerized_once_and_pinned_as_the_registry_serves_it(
    engines, root, held, monkeypatch
):
    """`bentoml containerize`, push, and the digest that is served; the same key again builds nothing."""
    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    monkeypatch.setenv("LOOP_BUILD_OPTIONS", "network=host")
    push(held, monkeypatch)
    answer = made(root, "buildah")
    name = f"{held.host}/team/fraud-detector"
    assert (answer["kind"], answer["image"]) == ("container", f"{name}@{answer['digest']}")
    assert [layer["unpacked"] for layer in answer["layers"]] == [5]
    assert made(root, "buildah") == answer
    (called,) = (root / "calls").read_text().splitlines()
    asked = f"--backend buildah --image-tag {name}:k1 --opt=network=host"
    assert called == f"python -m bentoml containerize fraud_detector:k1 {asked}"


def test_a_digest_that_the_registry_does_not_serve_is_no_image(engines, root, held, monkeypatch):
    """What was pushed and what is served must be one digest; else nothing is written."""
    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    monkeypatch.setattr(engine, "push", lambda *_: held.add("k1", b"x") and "sha256:" + "a" * 64)
    with pytest.raises(LoopError, match=r"was pushed, sha256:.* is served"):
        made(root, "docker")
    assert not (root / "build").exists()


def test_an_image_over_the_limit_is_rejected(engines, root, held, monkeypatch):
    """The unpacked size counts, however well it packs, and the layers say where it is."""
    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    monkeypatch.setattr(image, "MOST", 1_000_000)
    push(held, monkeypatch, b"\0" * 1_000_001)
    with pytest.raises(Rejected, match=r"1 MB unpacked, may be 1:\n.*make"):
        made(root, "docker")
    assert not (root / "build").exists()


def test_without_an_engine_the_bento_itself_is_pinned(root, held):
    """The digest names an artifact on disk, which gives the bento back."""
    answer = made(root, None)
    assert answer["kind"] == "bento-artifact"
    assert answer["image"] == f"{held.host}/team/fraud-detector@{answer['digest']}"
    assert (image.fetch("fraud-detector", answer["digest"]) / "bento.yaml").is_file()


def base(text):
    """The base image that a Dockerfile or a bento's service names."""
    (name,) = re.findall(r"docker\.io/\S+?(?=[\"\s])", text)
    (digest,) = re.findall(r"@sha256:[0-9a-f]{64}", text)
    return name.removesuffix(digest) + digest


def test_every_image_stands_on_a_base_by_digest(repository):
    """And the monitor on one that a bento stands on, so that a node pulls it once."""
    bentos, others = repository.glob("bentos/*/service.py"), repository.glob("images/*/Dockerfile")
    assert {base(path.read_text()) for path in others} <= {base(path.read_text()) for path in bentos}


def test_an_image_is_built_by_the_uv_of_the_environment(repository):
    """The lock that travels in the bento is the one that `make lock` writes."""
    packed = repository / "src/loop/serving/packed/uv.lock"
    assert packed.read_text() == (repository / "tools/uv.lock").read_text()


def test_nothing_stays_of_what_installs(repository, monkeypatch):
    """BentoML finds our uv before its own step, and the last step takes it away."""
    from loop.serving.packed.image import pinned

    monkeypatch.setenv("LOOP_BASE_IMAGE", "base@sha256:1")
    lock = repository / "bentos/fraud_detector/requirements.lock"
    found = pinned(lock, "other")
    assert found.base_image == "base@sha256:1"
    assert "> /usr/local/bin/uv &&" in found.commands[0]
    assert "--require-hashes" in found.commands[0]
    assert "\n" not in json.dumps(found.commands[0])
    assert found.post_commands == ["rm /usr/local/bin/uv /usr/local/bin/uv.lock"]
