"""Questions whether a user watched a film. The films of one user are ranked against each other."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",
    "at": "timestamp[us]",
    "user": "int64",
    "film": "int64",
    "rating": "float64",  # 0.5 to 5 stars; null if the user has not rated the film
    "watched": "float64",  # 1 if the user has rated the film, otherwise 0
    "part": "string",
}
ROLES = Roles(id="id", label="watched", time="at", entity="user", never=("rating",), part="part")
TASK: Task = "ranking"
