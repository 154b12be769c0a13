"""Columns of a review of a business or a film, and whether it is positive or negative."""

from loop.core.models import Roles, Task

DOMAINS = ("yelp", "imdb")
COLUMNS = {
    "id": "string",  # where the text is in its source, such as imdb/train/neg/0_3.txt
    "text": "string",
    "sentiment": "string",
    "domain": "string",  # one of DOMAINS; no feature, because requests do not contain a domain
    "part": "string",  # the publisher's part: train or test
}
ROLES = Roles(id="id", label="sentiment", part="part", context=("domain",))
TASK: Task = "binary"
CLASSES = ("negative", "positive")
