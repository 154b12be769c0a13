"""Checks of digits as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import RandomSplit
from loop.pipeline.validate import Check


def suite(_: object, __: RandomSplit) -> list[Check]:
    """Return checks that each row has an image, and that its label is a digit."""
    import great_expectations.expectations as gxe

    labels = gxe.ExpectColumnValuesToBeInSet(column="digit", value_set=list(range(10)))
    return [Check(labels), Check(gxe.ExpectColumnValuesToNotBeNull(column="image"))]
