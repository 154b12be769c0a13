"""A customer's state as numbers, one of which may be missing."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("orders", "days_ago")
MISSING = ("days_ago",)


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a customer and look."""
    return rows.select("id", "at", "customer", "next", *FEATURES)
