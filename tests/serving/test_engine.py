"""Which engine is taken, and by what digest it pushed. The engines here are stand-ins: shapes only."""

import pytest

from loop.core.errors import LoopError
from loop.serving import engine

DIGEST = "sha256:" + "a" * 64
NAME = "registry.example:5000/team/x"


def test_an_engine_counts_only_when_it_runs(engines, monkeypatch):
    """One that is installed but whose `info` fails is passed over; LOOP_ENGINE decides, or says none."""
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
def test_a_push_gives_the_digest_that_the_registry_took(engines, program):
    """From RepoDigests for docker, which has one for each registry; from --digestfile for the others."""
    others = f"printf '{DIGEST}' > $3"
    docker = f"echo other.example/x@sha256:1; echo {NAME}@{DIGEST}"
    engines(program, docker if program == "docker" else others)
    assert engine.push(program, f"{NAME}:k1") == DIGEST


def test_a_push_that_fails_says_how_to_log_in(engines):
    """The engine's own words, and the command for that registry."""
    engines("docker", "echo denied; exit 1")
    with pytest.raises(LoopError, match=r"denied\n.*docker login registry.example:5000"):
        engine.push("docker", f"{NAME}:k1")
