"""A flat's own columns, as they are: scorer.py encodes them."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("district", "heating", "area", "rooms", "balcony")
MISSING = ("heating", "area")


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a flat."""
    return rows.select("flat", "rent", *FEATURES)
