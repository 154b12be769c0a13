"""Handlers of GitHub's calls about comments and commit statuses."""

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from loop_demo.github import shapes
from loop_demo.github.calls import Call

STATES = ("error", "failure", "pending", "success")


def comments(call: Call) -> Response:
    """Answer with a pull request's comments, oldest first."""
    call.find("pulls", "number", "issue_number")
    found = call.page(call.of("comments", issue=call.path["issue_number"]))
    return JSONResponse([shapes.comment(call.runner, call.repo, comment) for comment in found])


def add_comment(call: Call) -> Response:
    """Add a comment to a pull request, and answer with the comment."""
    number, body = call.find("pulls", "number", "issue_number")["number"], call.text("body")
    call.prose()
    made = call.state.add("comments", repository=call.repo.name, issue=number, login=call.login, body=body)
    return JSONResponse(shapes.comment(call.runner, call.repo, made), 201)


def edit_comment(call: Call) -> Response:
    """Change a comment's text, and answer with the comment."""
    comment, body = call.find("comments", "id", "comment_id"), call.text("body")
    call.prose()
    call.state.update(comment, body=body)
    return JSONResponse(shapes.comment(call.runner, call.repo, comment))


def ghost(call: Call) -> Response:
    """Delete the account that wrote a comment: GitHub then shows `user: null`. Only at the stand-in."""
    comment = call.find("comments", "id", "comment_id")
    call.state.update(comment, login=None)
    return JSONResponse(shapes.comment(call.runner, call.repo, comment))


def add_status(call: Call) -> Response:
    """Set a commit's status in one context, and answer with the status."""
    sha, state = call.repo.resolve(call.path["sha"]), call.text("state")
    if sha is None or state not in STATES:
        raise HTTPException(422, f"Validation Failed: {'sha' if sha is None else 'state'}")
    kept = {key: call.body.get(key) for key in ("description", "target_url")}
    fields = {"sha": sha, "state": state, "context": call.body.get("context", "default"), **kept}
    made = call.state.add("statuses", repository=call.repo.name, login=call.login, **fields)
    return JSONResponse(shapes.status(call.runner, call.repo, made), 201)


def statuses(call: Call) -> Response:
    """Answer with a commit's statuses, newest first."""
    found = call.of("statuses", sha=call.repo.resolve(call.path["ref"]))[::-1]
    return JSONResponse([shapes.status(call.runner, call.repo, status) for status in call.page(found)])
