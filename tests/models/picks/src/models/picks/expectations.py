"""Checks of shown films as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import TimeSplit
from loop.pipeline.validate import Check


def suite(_: object, __: TimeSplit) -> list[Check]:
    """Return a check that a film got from 0 to 5 stars."""
    import great_expectations.expectations as gxe

    return [Check(gxe.ExpectColumnValuesToBeBetween(column="stars", min_value=0, max_value=5))]
