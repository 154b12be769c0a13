"""What a user has seen, and the film in question."""

import ibis.expr.types as ir

from loop.core.params import Section

FEATURES = ("history", "film")


class Params(Section):
    """Nothing to choose."""


def compute(rows: ir.Table, _: Params) -> ir.Table:
    """One row a film that was shown."""
    return rows.select("id", "at", "user", "stars", *FEATURES)
