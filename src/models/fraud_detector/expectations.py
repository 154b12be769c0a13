"""Checks of transactions as a Great Expectations suite; critical checks stop the pipeline."""

from datetime import timedelta

from pydantic import Field

from loop.core.params import Section, Share, TimeSplit
from loop.pipeline.validate import Check

from .schema import COLUMNS, ROLES

PAYMENT = ["TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT"]
KNOWN = ("TRANSACTION_ID", *PAYMENT)  # columns that must not contain nulls


class Params(Section):
    """Limits that a person may have to adjust, in the units of the schema."""

    # share of labelled rows that are fraud; a small simulated world has a high share
    fraud_rate: tuple[Share, Share] = (0.0005, 0.2)
    # range of the mean amount; detects amounts in another unit, such as cents
    mean_amount: tuple[float, float] = (5.0, 500.0)
    max_amount: float = Field(default=5_000.0, gt=0)  # rows with a higher amount lower data_quality_score
    # range of a day's number of rows, divided by the median day's number
    day_share: tuple[float, float] = (0.5, 2.0)
    # Hours by which the newest row may be older than the end of the test window.
    fresh_hours: float = Field(default=24.0, gt=0)


def suite(params: Params, split: TimeSplit) -> list[Check]:
    """Return all checks of the raw rows.

    Freshness is measured from the end of the test window, not from now, so that results are reproducible.
    """
    # Great Expectations is imported only here, because it takes seconds and few commands need it.
    import great_expectations.expectations as gxe
    from great_expectations.expectations.row_conditions import Column

    numbers = [name for name in KNOWN if name != ROLES.time]
    low_amount, high_amount = params.mean_amount
    low_rate, high_rate = params.fraud_rate
    least, most = params.day_share
    simulated = Column("TX_FRAUD_SCENARIO") > 0
    # Labels before the end of the test window must be known, otherwise the test window is incomplete.
    due = Column("TX_DATETIME") < split.until
    fresh = split.until - timedelta(hours=params.fresh_hours)
    begins = split.until - timedelta(days=split.test_days + split.delay_days + split.train_days)
    begun = begins + timedelta(days=1)  # the first row may come at any time of the first day
    critical = [
        gxe.ExpectTableColumnsToMatchSet(column_set=list(COLUMNS)),
        *(gxe.ExpectColumnValuesToBeOfType(column=name, type_=COLUMNS[name]) for name in numbers),
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("TERMINAL_ID", "TX_AMOUNT")),
        gxe.ExpectColumnValuesToBeBetween(column="TX_AMOUNT", min_value=0),
        gxe.ExpectColumnMeanToBeBetween(column="TX_AMOUNT", min_value=low_amount, max_value=high_amount),
        gxe.ExpectColumnValuesToBeInSet(column="TX_FRAUD", value_set=[0, 1]),
        gxe.ExpectColumnMeanToBeBetween(column="TX_FRAUD", min_value=low_rate, max_value=high_rate),
        gxe.ExpectColumnValuesToBeInSet(column="TX_FRAUD", value_set=[1], row_condition=simulated),
        gxe.ExpectColumnValuesToBeIncreasing(column=ROLES.time),
        gxe.ExpectColumnMaxToBeBetween(column=ROLES.time, min_value=fresh),
        gxe.ExpectColumnMinToBeBetween(column=ROLES.time, max_value=begun),
    ]
    scored = [
        gxe.ExpectColumnValuesToBeBetween(column="TX_AMOUNT", max_value=params.max_amount),
        gxe.ExpectColumnValuesToBeBetween(column="CUSTOMER_ID", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="TERMINAL_ID", min_value=0),
        gxe.ExpectCompoundColumnsToBeUnique(column_list=PAYMENT),
        gxe.ExpectColumnValuesToNotBeNull(column="TX_FRAUD", row_condition=due),
    ]
    by_day = gxe.ExpectColumnValuesToBeBetween(column="rows_over_median", min_value=least, max_value=most)
    return [
        *map(Check, critical),
        *(Check(each, critical=False) for each in scored),
        Check(by_day, of="days"),
    ]
