"""A customer's next action: three classes in words, with a time and an entity."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "int64",
    "at": "timestamp[us]",
    "customer": "int32",
    "orders": "int64",
    "days_ago": "float64",  # since the last order; null if there was none
    "next": "string",
}
ROLES = Roles(id="id", label="next", time="at", entity="customer")
TASK: Task = "multiclass"
