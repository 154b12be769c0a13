"""Fixtures for the tests of loop.candidate."""

from here import dvc_always_here, dvc_here
from trained import trained, trained_once

__all__ = ["dvc_always_here", "dvc_here", "trained", "trained_once"]
