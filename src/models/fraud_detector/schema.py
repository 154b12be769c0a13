"""The published columns of a card transaction, and which part each plays."""

from loop.core.models import Roles, Task

COLUMNS = {
    "TRANSACTION_ID": "int64",
    "TX_DATETIME": "timestamp[us]",  # UTC, naive
    "CUSTOMER_ID": "int32",
    "TERMINAL_ID": "int32",
    "TX_AMOUNT": "float64",
    "TX_FRAUD": "int8",  # 1 fraud, 0 not, null while nobody knows
    "TX_FRAUD_SCENARIO": "int8",  # which kind of fraud was simulated, 0 none: production has no such column
}
ROLES = Roles(
    id="TRANSACTION_ID",
    label="TX_FRAUD",
    time="TX_DATETIME",
    entity="CUSTOMER_ID",
    never=("TX_FRAUD_SCENARIO",),
)
TASK: Task = "binary"
