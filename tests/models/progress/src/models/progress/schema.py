"""How a diabetes patient's disease has progressed in a year; no time, no entity."""

from loop.core.models import Roles, Task

MEASURED = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
COLUMNS = {"id": "int64", **dict.fromkeys(MEASURED, "float64"), "progression": "float64"}
ROLES = Roles(id="id", label="progression")
TASK: Task = "regression"
