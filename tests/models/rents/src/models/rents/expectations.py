"""Checks of flats as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check


def suite(_: object, __: RandomSplit) -> list[Check]:
    """Return checks that a rent is positive, and that a flat has a district."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToBeBetween(column="rent", min_value=1, max_value=10_000)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="district")),
    ]
