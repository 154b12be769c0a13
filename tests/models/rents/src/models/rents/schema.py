"""Flats and their rents: strings, booleans, gaps, no time and no entity."""

from loop.core.models import Roles, Task

COLUMNS = {
    "flat": "string",  # a UUID
    "district": "string",
    "heating": "string",  # null if unknown
    "area": "float64",  # m²; null if unknown
    "rooms": "int64",
    "balcony": "bool",
    "rent": "float64",
}
ROLES = Roles(id="flat", label="rent")
TASK: Task = "regression"
