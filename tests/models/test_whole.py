"""The models of this repository, whichever they are."""

from pathlib import Path

import pytest

from loop import diagnosis


@pytest.mark.contract
@pytest.mark.params
def test_every_model_is_whole(repository: Path) -> None:
    """Each model of params.yaml has the keys that all have, and all of its folders, which name no other one."""
    assert [found for found in diagnosis._models(repository) if found.state != "ok"] == []
