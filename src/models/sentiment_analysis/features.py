"""The text, as it is: scorer.py cuts it into words."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("text",)


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a text."""
    return rows.select("id", "domain", "part", "sentiment", "text")
