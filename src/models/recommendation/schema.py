"""Films that a user was asked about: did they watch it? One user's films are ranked against each other."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",
    "at": "timestamp[us]",
    "user": "int64",
    "film": "int64",
    "rating": "float64",  # 0.5 to 5 stars; null where the user has not rated the film
    "watched": "float64",  # 1 where the user has rated the film, else 0
    "part": "string",
}
ROLES = Roles(id="id", label="watched", time="at", entity="user", never=("rating",), part="part")
TASK: Task = "ranking"
