"""A sentence about a restaurant and what it says; labels in words, no time, no entity."""

from loop.core.models import Roles, Task

COLUMNS = {"id": "string", "text": "string", "opinion": "string"}
ROLES = Roles(id="id", label="opinion")
TASK: Task = "binary"
CLASSES = ("negative", "positive")
