"""One authorised call: which repository, who asks, and what was sent."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from loop_demo.github import shapes
from loop_demo.github.hosting import Repository
from loop_demo.github.merge_queue import Queue
from loop_demo.github.runs import Runner

MOST = 100  # entries on a page; GitHub cuts what asks for more
LONGEST = 65_536  # characters of a comment, and of a pull request's description


class Call:
    """What a handler gets. `queue` is the repository's merge queue."""

    def __init__(
        self, runner: Runner, queue: Queue, request: Request, *, repo: Repository, who: str, body: Any
    ) -> None:
        self.runner, self.state, self.queue = runner, runner.state, queue
        self.repo, self.who, self.body = repo, who, dict(body)
        self.path, self.query = request.path_params, request.query_params

    @property
    def login(self) -> str:
        return shapes.LOGINS[self.who]

    def text(self, key: str) -> str:
        """A field of the body that must be there."""
        if not isinstance(self.body.get(key), str) or not self.body[key]:
            raise HTTPException(422, f"Validation Failed: {key} is missing")
        return str(self.body[key])

    def prose(self, key: str = "body") -> str | None:
        """A field of the body that people read; GitHub limits its length."""
        if len(text := self.body.get(key) or "") > LONGEST:
            raise HTTPException(
                422, f"Validation Failed: {key} is too long (maximum is {LONGEST} characters)"
            )
        return text or None

    def page(self, found: list[Any]) -> list[Any]:
        """The page that was asked for: 30 entries unless the call says how many."""
        size, page = min(int(self.query.get("per_page", 30)), MOST), int(self.query.get("page", 1))
        return found[(page - 1) * size : page * size]

    def of(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """The repository's records of a kind that have these fields."""
        wanted = {"repository": self.repo.name, **fields}
        with self.state.look() as data:
            return [r for r in data[kind] if all(r[key] == value for key, value in wanted.items())]

    def find(self, kind: str, key: str, name: str) -> dict[str, Any]:
        """The record whose `key` is what the path has as `name`."""
        found = self.of(kind, **{key: self.path[name]})
        if not found:
            raise HTTPException(404, "Not Found")
        return found[0]
