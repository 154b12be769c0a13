"""Scores transactions by the trees that estimator.py saved. Stages import it, and the bento packs it."""

from loop.runtime.booster import load

__all__ = ["load"]
