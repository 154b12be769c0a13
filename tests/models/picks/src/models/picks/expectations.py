"""What a film that was shown looks like."""

from loop.core.params import Section, TimeSplit
from loop.pipeline.validate import Check


class Params(Section):
    """Nothing to choose."""


def suite(_: Params, __: TimeSplit) -> list[Check]:
    """It got from 0 to 5 stars."""
    import great_expectations.expectations as gxe

    return [Check(gxe.ExpectColumnValuesToBeBetween(column="stars", min_value=0, max_value=5))]
