"""The image, as it is: scorer.py reads its pixels."""

import ibis.expr.types as ir

FEATURES = ("image",)


def compute(rows: ir.Table, _: object) -> ir.Table:
    """Return one row a digit."""
    return rows.select("id", "digit", "image")
