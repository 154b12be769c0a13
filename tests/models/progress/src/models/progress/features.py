"""What was measured, as it is."""

import ibis.expr.types as ir

from loop.core.params import Section
from models.progress.schema import MEASURED

FEATURES = MEASURED


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a patient."""
    return rows.select("id", "progression", *MEASURED)
