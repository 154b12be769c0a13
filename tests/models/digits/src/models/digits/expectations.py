"""What a digit looks like."""

from loop.core.params import RandomSplit, Section
from loop.pipeline.validate import Check


class Params(Section):
    """Nothing to choose."""


def suite(_: Params, __: RandomSplit) -> list[Check]:
    """There is an image, and a label is a digit."""
    import great_expectations.expectations as gxe

    labels = gxe.ExpectColumnValuesToBeInSet(column="digit", value_set=list(range(10)))
    return [Check(labels), Check(gxe.ExpectColumnValuesToNotBeNull(column="image"))]
