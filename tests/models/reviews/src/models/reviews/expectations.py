"""Checks of sentences as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check

from .schema import CLASSES


def suite(_: object, __: RandomSplit) -> list[Check]:
    """Return checks of the length, 1 to 10,000 characters, and of the opinion."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=10_000)),
        Check(gxe.ExpectColumnValuesToBeInSet(column="opinion", value_set=list(CLASSES))),
    ]
