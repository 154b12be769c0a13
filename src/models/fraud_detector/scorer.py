"""Scores transactions with the trees that estimator.py saved, in the stages and in the server."""

from loop.runtime.booster import load

__all__ = ["load"]
