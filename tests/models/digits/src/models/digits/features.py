"""Brightness, 0 to 1."""

import ibis.expr.types as ir

from loop.core.params import Section
from models.digits.schema import PIXELS

FEATURES = PIXELS


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a digit."""
    return rows.select("id", "digit", **{name: rows[name] / 16 for name in PIXELS})
