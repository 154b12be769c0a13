"""Films that a user was shown, and their stars: one user's films are ranked against each other."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "int64",
    "at": "timestamp[us]",
    "user": "string",
    "history": "list<int64>",  # films that the user had seen
    "film": "int64",
    "stars": "float64",
}
ROLES = Roles(id="id", label="stars", time="at", entity="user")
TASK: Task = "ranking"
