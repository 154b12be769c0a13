"""An authorised call to the stand-in: its repository, its caller and the data sent."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from loop_demo.github.hosting import Repository
from loop_demo.github.merging import Queue
from loop_demo.github.state import Record

MOST = 100  # the most entries on a page; GitHub reduces a larger `per_page` to this number
LONGEST = 65_536  # GitHub's limit for a comment and for a pull request's description, in characters


class Call:
    """The argument of every handler. `queue` is the repository's merge queue."""

    def __init__(self, queue: Queue, request: Request, *, repo: Repository, who: str, body: Any) -> None:
        self.queue, self.runner, self.state = queue, queue.runner, queue.runner.state
        self.repo, self.who, self.body = repo, who, dict(body)
        self.path, self.query = request.path_params, request.query_params
        self.below = request.url.path.partition(repo.name)[2]  # the path below the repository's

    def text(self, key: str, *, required: bool = True) -> str:
        """Return a text of the body; HTTPException 422 if it is missing, or longer than GitHub allows."""
        text = str(self.body.get(key) or "")
        if required and not text:
            raise HTTPException(422, f"Validation Failed: {key} is missing")
        if len(text) > LONGEST:
            most = f"maximum is {LONGEST} characters"
            raise HTTPException(422, f"Validation Failed: {key} is too long ({most})")
        return text

    def page(self, found: list[Any]) -> list[Any]:
        """Return the requested page of a list; a page has 30 entries unless the query has `per_page`."""
        size, page = min(int(self.query.get("per_page", 30)), MOST), int(self.query.get("page", 1))
        return found[(page - 1) * size : page * size]

    def add(self, kind: str, **fields: Any) -> Record:
        """Add a record of a kind (such as "pulls") by the caller to the repository."""
        return self.state.add(kind, repository=self.repo.name, login=self.who, **fields)

    def of(self, kind: str, **fields: Any) -> list[Record]:
        """Return the repository's records of a kind (such as "pulls") whose fields have the given values."""
        return self.state.of(kind, repository=self.repo.name, **fields)

    def find(self, kind: str, key: str, name: str) -> Record:
        """Return the record whose `key` equals the path parameter `name`; HTTPException 404 without one."""
        found = self.of(kind, **{key: self.path[name]})
        if not found:
            raise HTTPException(404, "Not Found")
        return found[0]
