"""Columns of a card transaction, as the handbook publishes them, and their roles."""

from loop.core.models import Roles, Task

COLUMNS = {
    "TRANSACTION_ID": "int64",
    "TX_DATETIME": "timestamp[us]",  # time of the transaction in UTC, without a time zone
    "CUSTOMER_ID": "int32",
    "TERMINAL_ID": "int32",
    "TX_AMOUNT": "float64",
    "TX_FRAUD": "int8",  # 1 fraud, 0 not fraud, null if not known yet
    "TX_FRAUD_SCENARIO": "int8",  # the simulated kind of fraud, 0 none; production does not have this column
}
ROLES = Roles(
    id="TRANSACTION_ID",
    label="TX_FRAUD",
    time="TX_DATETIME",
    entity="CUSTOMER_ID",
    never=("TX_FRAUD_SCENARIO",),
)
TASK: Task = "binary"
