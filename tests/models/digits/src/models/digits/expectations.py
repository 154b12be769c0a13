"""What a digit looks like."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check


def suite(_: object, __: RandomSplit) -> list[Check]:
    """There is an image, and a label is a digit."""
    import great_expectations.expectations as gxe

    labels = gxe.ExpectColumnValuesToBeInSet(column="digit", value_set=list(range(10)))
    return [Check(labels), Check(gxe.ExpectColumnValuesToNotBeNull(column="image"))]
