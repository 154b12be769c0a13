"""Checks of payments as a Great Expectations suite; critical checks stop the pipeline."""

from pydantic import Field

from loop.core.params import Section, TimeSplit
from loop.pipeline.validate import Check


class Params(Section):
    mean_amount: tuple[float, float] = (5.0, 500.0)
    max_amount: float = Field(default=5_000.0, gt=0)  # a row above it lowers the score


def suite(params: Params, _: TimeSplit) -> list[Check]:
    """Return checks that stop impossible amounts, and lower the score for unusual ones."""
    import great_expectations.expectations as gxe

    low, high = params.mean_amount
    amount = "TX_AMOUNT"
    return [
        Check(gxe.ExpectColumnValuesToNotBeNull(column=amount)),
        Check(gxe.ExpectColumnValuesToBeBetween(column=amount, min_value=0)),
        Check(gxe.ExpectColumnMeanToBeBetween(column=amount, min_value=low, max_value=high)),
        Check(gxe.ExpectColumnValuesToBeBetween(column=amount, max_value=params.max_amount), critical=False),
        Check(gxe.ExpectColumnValuesToBeInSet(column="TX_FRAUD", value_set=[0, 1])),
        Check(
            gxe.ExpectColumnValuesToBeBetween(column="rows_over_median", min_value=0.5, max_value=2),
            of="days",
        ),
    ]
