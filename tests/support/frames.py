"""Tables of payments, and functions that put faults into them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

START = np.datetime64("2018-04-01", "us")


def setting(column: str, value: object, count: int = 1) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Return a function that puts `value` into the first `count` rows of a column."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        values = frame[column].astype(object)
        values.iloc[:count] = value
        return frame.assign(**{column: values.infer_objects()})

    return change


def payments(rows: list[tuple[Any, ...]]) -> pa.Table:
    """Make a table of rows of (seconds since START, customer, terminal, cents, label); ids count from 0."""
    second, customer, terminal, cents, fraud = zip(*rows, strict=True)
    return pa.table({
        "TRANSACTION_ID": pa.array(range(len(rows)), pa.int64()),
        "TX_DATETIME": pa.array([START + np.timedelta64(s, "s") for s in second], pa.timestamp("us")),
        "CUSTOMER_ID": pa.array(customer, pa.int32()),
        "TERMINAL_ID": pa.array(terminal, pa.int32()),
        "TX_AMOUNT": pa.array([c / 100 for c in cents], pa.float64()),
        "TX_FRAUD": pa.array(fraud, pa.int8()),
        "TX_FRAUD_SCENARIO": pa.array([0] * len(rows), pa.int8()),
    })  # fmt: skip
