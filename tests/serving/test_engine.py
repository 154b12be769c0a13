"""Which engine is used, and how it saves an image. The engines here are fakes that record their calls."""

import pytest

from loop.core.errors import LoopError
from loop.packaging import engine

NAME = "registry.example:5000/team/x"


def test_an_engine_counts_only_when_it_runs(engines, monkeypatch):
    """An installed engine whose `info` fails is skipped; LOOP_ENGINE chooses an engine, or `none`."""
    assert engine.engine() is None
    engines("buildah", "exit 0")
    assert engine.engine() == "buildah"
    engines("docker", "exit 0")
    assert engine.engine() == "docker"
    monkeypatch.setenv("LOOP_ENGINE", "none")
    assert engine.engine() is None
    for wrong in ("podman", "rkt"):
        monkeypatch.setenv("LOOP_ENGINE", wrong)
        with pytest.raises(LoopError, match="LOOP_ENGINE"):
            engine.engine()


@pytest.mark.parametrize("program", engine.ENGINES)
def test_an_image_is_saved_as_docker_saves_it(engines, program, tmp_path):
    """Each engine saves with its own command, and all in the same format."""
    engines(program, "exit 0")
    engine.save(program, f"{NAME}:k1", tmp_path / "image.tar")
    said = {
        "docker": f"docker save --output {tmp_path}/image.tar {NAME}:k1",
        "podman": f"podman save --format docker-archive --output {tmp_path}/image.tar {NAME}:k1",
        "buildah": f"buildah push {NAME}:k1 docker-archive:{tmp_path}/image.tar",
    }
    assert (tmp_path / "calls").read_text().strip() == said[program]


def test_an_engine_that_fails_is_heard(engines, tmp_path):
    """The error of a failed engine has the engine's own message, and says what to check."""
    engines("docker", r"printf 'd\351j\340: no space left\n'; exit 1")  # not UTF-8
    with pytest.raises(LoopError, match=r"d.j.: no space left\n.*fix: check that the disk has space"):
        engine.save("docker", f"{NAME}:k1", tmp_path / "image.tar")
