"""Fixtures of the reviewer's room."""

from trained import trained, trained_once

__all__ = ["trained", "trained_once"]
