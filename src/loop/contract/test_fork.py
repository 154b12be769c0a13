"""Each model is whole, and each overlay renders to what schema and policy allow."""

import pytest

from loop.core import edited, paths, repository
from loop.delivery import overlays, render
from loop.fork import doctor
from loop.pipeline import fingerprints

ROOT = paths.root()


@pytest.mark.parametrize("found", doctor.models_of(ROOT), ids=lambda found: found.what)
def test_a_model_is_whole(found: doctor.Finding) -> None:
    """It has its folders and keys, its modules define what they must, and no file names another model."""
    assert found.state == "ok", f"{found.found}\n{found.fix}"


def test_overlays_render() -> None:
    """Each by itself and all together, as they are and as a first release makes them."""
    assert overlays.check(ROOT)


@pytest.mark.parametrize("folder", ["argocd", "kustomize/platform"])
def test_shared_manifests_render(folder: str) -> None:
    """What a cluster has once."""
    render.check(ROOT, render.build(ROOT / folder), folder)


def test_the_repository_has_its_own_name() -> None:
    """argocd/repository.yaml is sound."""
    assert repository.read(ROOT).slug


@pytest.mark.parametrize("stage", fingerprints.STAGES)
def test_the_engines_fingerprints_are_committed(stage: str) -> None:
    """Otherwise a stage would not run again after an upgrade that changes it: `./loop repro` writes them."""
    path = f"{fingerprints.FOLDER}/{stage}"
    assert edited.read(ROOT / path, path, "./loop repro") == fingerprints.text(ROOT, stage)
