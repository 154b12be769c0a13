"""The Fraud Detection Handbook's features in Ibis: time, the card's recent payments, the terminal's risk."""

from typing import Annotated

import ibis
import ibis.expr.types as ir
from pydantic import Field

from loop.core.params import Section

DAY = 24 * 60 * 60
SATURDAY = 5
LAST_HOUR_OF_NIGHT = 6
# columns of transactions that stand before the features in features.parquet
KEPT = ("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TX_FRAUD")


class Params(Section):
    windows_days: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 7, 30), min_length=1)
    # days until a fraud is reported; a terminal's risk uses only older transactions
    delay_days: int = Field(default=7, gt=0)


def names(params: Params) -> tuple[str, ...]:
    """Return the names of the features, in order, for these windows."""
    customer, terminal = ("NB_TX", "AVG_AMOUNT"), ("NB_TX", "RISK")
    return (
        "TX_AMOUNT",
        "TX_DURING_WEEKEND",
        "TX_DURING_NIGHT",
        *(f"CUSTOMER_ID_{what}_{days}DAY_WINDOW" for days in params.windows_days for what in customer),
        *(f"TERMINAL_ID_{what}_{days}DAY_WINDOW" for days in params.windows_days for what in terminal),
    )


FEATURES = names(Params())


def compute(transactions: ir.Table, params: Params) -> ir.Table:
    """Return one row of features per transaction, from what is known at the second of that transaction.

    A card's windows end with the transaction itself, and a terminal's end `delay_days` before it. An unknown
    (null) label counts as no fraud. Transactions in the same second count together.
    """
    t = transactions.mutate(
        second=transactions.TX_DATETIME.epoch_seconds(),
        # Cents and counts are integers, because integer sums do not depend on the order in which an engine
        # adds.
        cents=(transactions.TX_AMOUNT * 100).round().cast("int64"),
        fraud=transactions.TX_FRAUD.fill_null(0).cast("int64"),
    )
    delay = params.delay_days
    columns = {
        "TX_DURING_WEEKEND": (t.TX_DATETIME.day_of_week.index() >= SATURDAY).cast("float64"),
        "TX_DURING_NIGHT": (t.TX_DATETIME.hour() <= LAST_HOUR_OF_NIGHT).cast("float64"),
    }
    for days in params.windows_days:
        window = _past(t, "CUSTOMER_ID", days * DAY - 1, 0)
        count = t.count().over(window)
        columns[f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW"] = count.cast("float64")
        amounts = t.cents.sum().over(window).cast("float64")
        columns[f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW"] = amounts / count / 100
        window = _past(t, "TERMINAL_ID", (delay + days) * DAY - 1, delay * DAY)
        count = t.count().over(window).cast("float64")
        columns[f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW"] = count
        fraud = t.fraud.sum().over(window).cast("float64")
        columns[f"TERMINAL_ID_RISK_{days}DAY_WINDOW"] = (fraud / count.nullif(0)).fill_null(0.0)
    return t.mutate(**columns).select(*KEPT, *names(params))


def _past(t: ir.Table, entity: str, oldest: int, newest: int) -> ibis.expr.builders.WindowBuilder:
    """Return a window of an entity's rows between `oldest` and `newest` seconds ago, both inclusive."""
    return ibis.range_window(preceding=(oldest, newest), group_by=t[entity], order_by=t.second)
