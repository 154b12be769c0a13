"""What a sentence looks like."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check

from .schema import CLASSES


def suite(_: object, __: RandomSplit) -> list[Check]:
    """It has from one to 10,000 characters, and an opinion that is known."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1, max_value=10_000)),
        Check(gxe.ExpectColumnValuesToBeInSet(column="opinion", value_set=list(CLASSES))),
    ]
