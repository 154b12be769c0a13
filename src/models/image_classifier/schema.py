"""Columns of a handwritten digit: the image as PNG, its digit, and the publisher's part, train or test."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",
    "image": "binary",  # a PNG of 28 x 28 pixels, white on black
    "label": "int8",  # the digit, 0 to 9; null if not known yet
    "part": "string",  # the publisher's part: train or test
}
ROLES = Roles(id="id", label="label", part="part")
TASK: Task = "multiclass"
CLASSES = tuple(range(10))
