"""Card payments, with the columns that the Fraud Detection Handbook publishes."""

from loop.core.models import Roles, Task

COLUMNS = {
    "TRANSACTION_ID": "int64",
    "TX_DATETIME": "timestamp[us]",
    "CUSTOMER_ID": "int32",
    "TERMINAL_ID": "int32",
    "TX_AMOUNT": "float64",
    "TX_FRAUD": "int8",
    "TX_FRAUD_SCENARIO": "int8",
}
ROLES = Roles(
    id="TRANSACTION_ID",
    label="TX_FRAUD",
    time="TX_DATETIME",
    entity="CUSTOMER_ID",
    never=("TX_FRAUD_SCENARIO",),
)
TASK: Task = "binary"
