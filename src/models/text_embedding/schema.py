"""Sentences in pairs: people said from 0 to 5 how alike the two are; both rows have that label."""

from loop.core.models import Roles, Task

COLUMNS = {
    "id": "string",  # the pair's name and -1 or -2
    "pair": "string",  # made of the two texts, so the same pair has the same name wherever it comes from
    "text": "string",
    "alike": "float64",  # 0 not at all, 5 the same meaning
    "part": "string",  # train or test
}
ROLES = Roles(id="id", label="alike", entity="pair", part="part")
TASK: Task = "embedding"
