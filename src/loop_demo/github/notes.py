"""Handlers of GitHub's calls about comments and commit statuses."""

from typing import Any

from starlette.exceptions import HTTPException

from loop_demo.github import shapes
from loop_demo.github.calls import Call


def comments(call: Call) -> list[Any]:
    """Answer with a pull request's comments, oldest first."""
    call.find("pulls", "number", "issue_number")
    found = call.page(call.of("comments", issue=call.path["issue_number"]))
    return [shapes.comment(call.runner, call.repo, comment) for comment in found]


def add_comment(call: Call) -> dict[str, Any]:
    """Add a comment to a pull request, and answer with the comment."""
    number, body = call.find("pulls", "number", "issue_number")["number"], call.text("body")
    call.prose()
    made = call.state.add("comments", repository=call.repo.name, issue=number, login=call.login, body=body)
    return shapes.comment(call.runner, call.repo, made)


def edit_comment(call: Call) -> dict[str, Any]:
    """Change a comment's text, and answer with the comment."""
    comment, body = call.find("comments", "id", "comment_id"), call.text("body")
    call.prose()
    call.state.update(comment, body=body)
    return shapes.comment(call.runner, call.repo, comment)


def add_status(call: Call) -> dict[str, Any]:
    """Set a commit's status in one context, and answer with the status."""
    sha = call.repo.resolve(call.path["sha"])
    if sha is None:
        raise HTTPException(422, "Validation Failed: sha")
    absent = {"context": "default", "description": None, "target_url": None}
    fields = {"repository": call.repo.name, "login": call.login, "sha": sha, **absent, **call.body}
    made = call.state.add("statuses", **fields)
    return shapes.status(call.runner, call.repo, made)


def statuses(call: Call) -> list[Any]:
    """Answer with a commit's statuses, newest first."""
    found = call.of("statuses", sha=call.repo.resolve(call.path["ref"]))[::-1]
    return [shapes.status(call.runner, call.repo, status) for status in call.page(found)]
