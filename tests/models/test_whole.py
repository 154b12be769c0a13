"""The models of this repository, whichever they are."""

from pathlib import Path

import pytest

from loop import diagnosis


@pytest.mark.contract
@pytest.mark.params
def test_every_model_is_whole(repository: Path) -> None:
    """Each model of params.yaml has all keys and all of its folders, and these name no other model."""
    assert [found for found in diagnosis._models(repository) if found.state != "ok"] == []
