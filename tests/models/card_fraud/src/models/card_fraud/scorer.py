"""Scores payments by the trees that estimator.py saved."""

from loop.serving.packed.booster import load

__all__ = ["load"]
