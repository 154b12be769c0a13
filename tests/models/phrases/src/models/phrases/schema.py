"""Phrases in pairs: the label of both says how alike they are."""

from loop.core.models import Roles, Task

COLUMNS = {"id": "string", "pair": "int64", "text": "string", "alike": "float64"}
ROLES = Roles(id="id", label="alike", entity="pair")
TASK: Task = "embedding"
