"""A flat's own columns, as they are: scorer.py encodes them."""

import ibis.expr.types as ir

FEATURES = ("district", "heating", "area", "rooms", "balcony")
MISSING = ("heating", "area")


def compute(rows: ir.Table, _: object) -> ir.Table:
    """Return one row a flat."""
    return rows.select("flat", "rent", *FEATURES)
