"""The only feature is the text itself; scorer.py splits it into words."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("text",)


class Params(Section):
    """There are no parameters."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """Return one row per text."""
    return rows.select("id", "domain", "part", "sentiment", "text")
