"""Checks of customers' states as a Great Expectations suite; critical checks stop the pipeline."""

from loop.core.params import TimeSplit
from loop.pipeline.validate import Check


def suite(_: object, __: TimeSplit) -> list[Check]:
    """Return checks of the number of orders, and that the label is one of three."""
    import great_expectations.expectations as gxe

    return [
        Check(gxe.ExpectColumnValuesToBeBetween(column="orders", min_value=0, max_value=1000)),
        Check(gxe.ExpectColumnValuesToBeInSet(column="next", value_set=["call", "nothing", "visit"])),
    ]
