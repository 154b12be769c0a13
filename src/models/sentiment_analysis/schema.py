"""A review of a business or a film, and whether it praises or blames."""

from loop.core.models import Roles, Task

DOMAINS = ("yelp", "imdb")
COLUMNS = {
    "id": "string",  # the place in its source, such as imdb/train/neg/0_3.txt
    "text": "string",
    "sentiment": "string",
    "domain": "string",  # one of DOMAINS; a request has none, so it is no feature
    "part": "string",  # train or test, as the publisher splits
}
ROLES = Roles(id="id", label="sentiment", part="part", context=("domain",))
TASK: Task = "binary"
CLASSES = ("negative", "positive")
