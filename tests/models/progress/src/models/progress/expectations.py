"""What a patient's measurements look like."""

from loop.core.params import RandomSplit, Section
from loop.pipeline.validate import Check


class Params(Section):
    """Nothing to choose."""


def suite(_: Params, __: RandomSplit) -> list[Check]:
    """A body mass index and a progression are positive."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=1, max_value=1000))
        for name in ("bmi", "progression")
    ]
