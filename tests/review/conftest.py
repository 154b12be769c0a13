"""Fixtures of the reviewer's room."""

import pytest
from here import dvc_here
from trained import trained, trained_once

__all__ = ["dvc_here", "trained", "trained_once"]


@pytest.fixture(autouse=True)
def _dvc_here(dvc_here: None) -> None:
    """DVC as a program of its own is tested in tests/core and tests/pipeline."""
