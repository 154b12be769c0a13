"""The only feature is the text itself; scorer.py splits it into word pieces."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("text",)


class Params(Section):
    """There are no parameters."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """Return one row per sentence."""
    return rows.select("id", "pair", "alike", "part", "text")
