"""An image of a handwritten digit as PNG, which digit it is, and in which half the publisher has put it."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",
    "image": "binary",  # a PNG of 28 x 28 pixels, white on black
    "label": "int8",  # 0 to 9, null while nobody knows
    "part": "string",  # train or test
}
ROLES = Roles(id="id", label="label", part="part")
TASK: Task = "multiclass"
CLASSES = tuple(range(10))
