"""Fixtures for the tests of loop.review."""

from here import dvc_always_here, dvc_here
from trained import trained, trained_once

__all__ = ["dvc_always_here", "dvc_here", "trained", "trained_once"]
