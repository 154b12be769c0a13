"""Checks that every model of a fork is complete, and that its manifests satisfy schemas and policies."""

import pytest

from loop.core import dvc, edited, paths, repository
from loop.core.results import Finding
from loop.delivery import overlays, render
from loop.fork import doctor
from loop.pipeline import fingerprints

ROOT = paths.root()


@pytest.mark.parametrize("found", doctor.models_of(ROOT), ids=lambda found: found.what)
def test_a_model_is_whole(found: Finding) -> None:
    """A model has all folders, keys and definitions that the engine needs, and names no other model."""
    assert found.state != "bad", f"{found.found}\n{found.fix}"


def test_overlays_render() -> None:
    """The overlays render alone and together, both now and with a first release in each of them."""
    assert overlays.check(ROOT)


@pytest.mark.parametrize("folder", ["argocd", "kustomize/platform"])
def test_shared_manifests_render(folder: str) -> None:
    """The manifests that a cluster has once, for all models, satisfy schemas and policies."""
    render.check(ROOT, render.build(ROOT / folder), folder)


def test_the_repository_has_its_own_name() -> None:
    """argocd/repository.yaml states a valid name, URL and container registry."""
    assert repository.read(ROOT).slug


@pytest.mark.parametrize("stage", dvc.ours(ROOT))
def test_the_engines_fingerprints_are_committed(stage: str) -> None:
    """DVC reruns a stage after an upgrade only if the engine's new fingerprint of the stage is committed."""
    path = f"{fingerprints.FOLDER}/{stage}"
    assert edited.read(ROOT / path, path, "./loop repro") == fingerprints.text(ROOT, stage)
