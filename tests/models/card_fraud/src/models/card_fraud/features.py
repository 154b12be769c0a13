"""What is paid, when, and how risky the terminal was."""

import ibis
import ibis.expr.types as ir
from pydantic import Field

from loop.core.params import Section

DAY = 24 * 60 * 60
SATURDAY, MORNING = 5, 7  # the number of a weekday, and an hour
FEATURES = ("TX_AMOUNT", "TX_DURING_WEEKEND", "TX_DURING_NIGHT", "TERMINAL_ID_RISK")


class Params(Section):
    delay_days: int = Field(default=7, gt=0)  # until a fraud is reported
    window_days: int = Field(default=7, gt=0)


def compute(transactions: ir.Table, params: Params) -> ir.Table:
    """Return one row a payment; the risk is its terminal's share of fraud in a window before the delay."""
    t = transactions.mutate(
        second=transactions.TX_DATETIME.epoch_seconds(),
        fraud=transactions.TX_FRAUD.fill_null(0).cast("float64"),
    )
    delay, days = params.delay_days * DAY, params.window_days * DAY
    past = ibis.range_window(preceding=(delay + days - 1, delay), group_by=t.TERMINAL_ID, order_by=t.second)
    return t.mutate(
        TX_DURING_WEEKEND=(t.TX_DATETIME.day_of_week.index() >= SATURDAY).cast("float64"),
        TX_DURING_NIGHT=(t.TX_DATETIME.hour() < MORNING).cast("float64"),
        TERMINAL_ID_RISK=t.fraud.mean().over(past).fill_null(0.0),
    ).select("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD", *FEATURES)
