"""Fixtures for the tests of forks."""

from aged import upstream
from here import dvc_always_here, dvc_here

__all__ = ["dvc_always_here", "dvc_here", "upstream"]
