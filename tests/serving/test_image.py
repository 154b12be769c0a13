"""What is made where an engine runs, and where none does. The engines here are stand-ins: shapes only."""

import pytest

from loop.core import repository
from loop.core.errors import LoopError
from loop.serving import image
from loop.serving.bento import Bento

DIGEST = "sha256:" + "a" * 64
NAME = "registry.example/team/fraud-detector"


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Make programs that write down how they were called; only what is made is on PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.delenv("LOOP_ENGINE", raising=False)

    def make(name, script):
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path / "calls"}\n{script}\n')
        (programs / name).chmod(0o755)

    for name in image.ENGINES:
        make(name, "exit 1")
    return make


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository with a registry, and a bento that needs no building."""
    (tmp_path / "argocd").mkdir()
    (tmp_path / repository.PATH).write_text(
        "data: {name: x, url: 'https://example.test/x.git', registry: registry.example/team}\n"
    )
    (tmp_path / "bento").mkdir()
    (tmp_path / "bento" / "bento.yaml").touch()
    monkeypatch.setenv("LOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path


def made(root, engine):
    return image.make(root, "fraud-detector", Bento("k1", "fraud_detector:k1", root / "bento"), engine)


def test_an_engine_counts_only_when_it_runs(engines, monkeypatch):
    """One that is installed but whose `info` fails is passed over; LOOP_ENGINE decides, or says none."""
    assert image.engine() is None
    engines("buildah", "exit 0")
    assert image.engine() == "buildah"
    engines("docker", "exit 0")
    assert image.engine() == "docker"
    monkeypatch.setenv("LOOP_ENGINE", "none")
    assert image.engine() is None
    for wrong in ("podman", "rkt"):
        monkeypatch.setenv("LOOP_ENGINE", wrong)
        with pytest.raises(LoopError, match="LOOP_ENGINE"):
            image.engine()


@pytest.mark.parametrize("engine", image.ENGINES)
def test_a_container_is_pinned_by_the_digest_that_the_registry_gave(engines, root, monkeypatch, engine):
    """containerize, push, and the digest: from RepoDigests for docker, from --digestfile for the others."""
    others = f"printf '{DIGEST}' > $3"
    engines(engine, f"echo other.example/x@sha256:1; echo {NAME}@{DIGEST}" if engine == "docker" else others)
    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    monkeypatch.setenv("LOOP_BUILD_OPTIONS", "network=host")
    answer = made(root, engine)
    assert answer["image"] == f"{NAME}@{DIGEST}"
    assert answer["kind"] == "container"
    built, pushed, *_ = (root / "calls").read_text().splitlines()
    asked = f"--backend {engine} --image-tag {NAME}:k1 --opt=network=host"
    assert built == f"python -m bentoml containerize fraud_detector:k1 {asked}"
    assert pushed.startswith(f"{engine} push ")


def test_a_push_that_fails_makes_no_image(engines, root, monkeypatch):
    """No digest is written that names nothing."""
    engines("docker", "exit 1")
    engines("python", "")
    monkeypatch.setattr(image.sys, "executable", "python")
    with pytest.raises(LoopError, match="docker push"):
        made(root, "docker")
    assert not (root / "build").exists()


def test_without_an_engine_the_bento_itself_is_pinned(root):
    """The digest names an artifact on disk, which gives the bento back."""
    answer = made(root, None)
    assert answer["kind"] == "bento-artifact"
    assert answer["image"] == f"{NAME}@{answer['digest']}"
    assert (image.fetch("fraud-detector", answer["digest"]) / "bento.yaml").is_file()
