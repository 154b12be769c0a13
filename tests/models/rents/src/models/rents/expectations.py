"""What a flat looks like."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check


def suite(_: object, __: RandomSplit) -> list[Check]:
    """Rents are positive, and a flat is in a district."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToBeBetween(column="rent", min_value=1, max_value=10_000)),
        Check(gxe.ExpectColumnValuesToNotBeNull(column="district")),
    ]
