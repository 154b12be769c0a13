"""Flats and what they are let for: strings, booleans, gaps, no time and no entity."""

from loop.core.models import Roles, Task

COLUMNS = {
    "flat": "string",  # a UUID
    "district": "string",
    "heating": "string",  # null where nobody knows
    "area": "float64",  # m²; null where nobody knows
    "rooms": "int64",
    "balcony": "bool",
    "rent": "float64",
}
ROLES = Roles(id="flat", label="rent")
TASK: Task = "regression"
