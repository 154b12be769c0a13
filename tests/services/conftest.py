"""Fixtures of the loop on servers."""

from services import services
from trained import trained, trained_once

__all__ = ["services", "trained", "trained_once"]
