"""What a digit looks like."""

from loop.core.params import RandomSplit, Section
from loop.pipeline.validate import Check
from models.digits.schema import PIXELS


class Params(Section):
    """Nothing to choose."""


def suite(_: Params, __: RandomSplit) -> list[Check]:
    """Pixels are 0 to 16, and a label is a digit."""
    import great_expectations.expectations as gxe

    pixels = [gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=16) for name in PIXELS]
    labels = gxe.ExpectColumnValuesToBeInSet(column="digit", value_set=list(range(10)))
    return [Check(labels), *map(Check, pixels)]
