"""An image of a handwritten digit, 8 x 8 pixels as PGM; no time, no entity."""

from loop.core.models import Roles, Task

COLUMNS = {"id": "int64", "image": "binary", "digit": "int8"}
ROLES = Roles(id="id", label="digit")
TASK: Task = "multiclass"
