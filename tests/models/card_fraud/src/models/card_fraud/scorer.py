"""Scores payments by the trees that estimator.py saved."""

from loop.runtime.booster import load

__all__ = ["load"]
