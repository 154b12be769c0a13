"""The only feature is the image itself; scorer.py reads its pixels."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("image",)


class Params(Section):
    """There are no parameters."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """Return one row per image."""
    return rows.select("id", "label", "part", *FEATURES)
