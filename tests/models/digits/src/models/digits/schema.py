"""8 x 8 pixels of a handwritten digit; no time, no entity."""

from loop.core.models import Roles, Task

PIXELS = tuple(f"pixel_{i:02d}" for i in range(64))
COLUMNS = {"id": "int64", **dict.fromkeys(PIXELS, "float64"), "digit": "int8"}
ROLES = Roles(id="id", label="digit")
TASK: Task = "multiclass"
