"""Columns of sentence pairs. People rated each pair's similarity from 0 to 5; both rows have that label."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",  # the pair's name followed by -1 or -2
    "pair": "string",  # hash of both texts, so the same pair has the same name in every source
    "text": "string",
    "alike": "float64",  # similarity of the pair: 0 different, 5 the same meaning
    "part": "string",  # the publisher's part: train or test
}
ROLES = Roles(id="id", label="alike", entity="pair", part="part")
TASK: Task = "embedding"
