"""Handlers of calls about pull requests, their comments, commit statuses, and the merge queue."""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from loop_demo.github import merging, shapes, triggers
from loop_demo.github.calls import Call
from loop_demo.github.hosting import ZERO
from loop_demo.github.state import Record

FIELDS = {"title": "title", "body": "body", "base": "base_ref"}  # what an edit may change: {GitHub's: ours}


def pulls(call: Call) -> list[Any]:
    """Answer with pull requests, newest first. As at GitHub, a list shows fewer fields of each."""
    state, head, base = call.query.get("state", "open"), call.query.get("head"), call.query.get("base")
    found = [
        pull
        for pull in reversed(call.of("pulls"))
        if state in (pull["state"], "all")
        and head in (None, f"{pull['head_repository'].partition('/')[0]}:{pull['head_ref']}")
        and base in (None, pull["base_ref"])
    ]
    return [shapes.pull_in_list(call.repo, pull) for pull in call.page(found)]


def pull(call: Call) -> dict[str, Any]:
    """Answer with one pull request."""
    return shapes.pull(call.repo, call.find("pulls", "number", "pull_number"))


def open_pull(call: Call) -> dict[str, Any]:
    """Open a pull request from a branch of the repository or of a fork."""
    if call.who == shapes.BOT and call.runner.options.no_pulls_by_actions:
        raise HTTPException(403, "GitHub Actions is not permitted to create or approve pull requests.")
    owner, _, head = call.text("head").rpartition(":")
    title, base, body = call.text("title"), call.text("base"), call.text("body", required=False) or None
    # Another owner's repository of this name is a fork
    source = call.runner.hosting.find(f"{owner or call.repo.owner}/{call.repo.name.partition('/')[2]}")
    sha = source.resolve(f"refs/heads/{head}") if source else None
    if source is None or sha is None:
        raise HTTPException(422, "Validation Failed: head is invalid")
    call.repo.borrow(source, sha)
    with call.runner.hosting.moving:
        _check_base(call, base, source.name, head, sha)
        number = len(call.of("pulls")) + 1
        sides = {"head_repository": source.name, "head_ref": head, "head_sha": sha, "base_ref": base}
        ends = dict.fromkeys(("closed_at", "merged_at", "merged_by", "merge_commit_sha"))
        state = {"state": "open", "merged": False, **ends}
        pull = call.add("pulls", number=number, title=title, body=body, **sides, **state)
        triggers.pull_changed(call.runner, call.repo, pull, "opened", call.who)
    return shapes.pull(call.repo, pull)


def _check_base(call: Call, base: str, source: str, head: str, sha: str) -> None:
    """Raise HTTPException 422 if a pull request from this head into this base is not possible."""
    base_sha = call.repo.resolve(f"refs/heads/{base}")
    if base_sha is None:
        raise HTTPException(422, "Validation Failed: base is invalid")
    if not call.repo.run("rev-list", "-1", f"{base_sha}..{sha}"):
        raise HTTPException(422, f"Validation Failed: No commits between {base} and {head}")
    if call.of("pulls", state="open", head_repository=source, head_ref=head, base_ref=base):
        raise HTTPException(422, f"Validation Failed: A pull request already exists for {head}.")


def edit_pull(call: Call) -> dict[str, Any]:
    """Edit a pull request's title, text, base or state, and start the workflows that listen to the change."""
    pull = call.find("pulls", "number", "pull_number")
    asked = {key: call.text(key, required=key != "body") for key in FIELDS if key in call.body}
    with call.runner.hosting.moving:
        new = {key: value for key, value in asked.items() if value != (pull[FIELDS[key]] or "")}
        changes: dict[str, Any] = {key: {"from": pull[FIELDS[key]] or ""} for key in new}
        if "base" in new:
            changes["base"] = _retargeted(call, pull, new["base"])
        if changes:
            call.state.update(pull, **{FIELDS[key]: value or None for key, value in new.items()})
            triggers.pull_changed(call.runner, call.repo, pull, "edited", call.who, changes=changes)
        if call.body.get("state") not in (None, pull["state"]):
            _change_state(call, pull, call.body["state"])
    return shapes.pull(call.repo, pull)


def _retargeted(call: Call, pull: Record, base: str) -> dict[str, Any]:
    """Return the change of a base in GitHub's event; HTTPException 422 if the base cannot be changed."""
    if pull["state"] == "closed":
        raise HTTPException(422, "Cannot change the base branch of a closed pull request.")
    _check_base(call, base, pull["head_repository"], pull["head_ref"], pull["head_sha"])
    sha = call.repo.resolve(f"refs/heads/{pull['base_ref']}") or ZERO
    return {"ref": {"from": pull["base_ref"]}, "sha": {"from": sha}}


def _change_state(call: Call, pull: Record, state: str) -> None:
    """Close or reopen a pull request; HTTPException 422 if that is not possible."""
    if state == "closed":
        triggers.closed(call.runner, call.repo, pull, call.who)
        return
    source = call.repo.other(pull["head_repository"])
    sha = source.resolve(f"refs/heads/{pull['head_ref']}")
    if pull["merged"] or sha is None:
        raise HTTPException(422, "Validation Failed: state cannot be changed")
    call.repo.borrow(source, sha)
    _check_base(call, pull["base_ref"], source.name, pull["head_ref"], sha)
    call.state.update(pull, state="open", closed_at=None, head_sha=sha)
    triggers.pull_changed(call.runner, call.repo, pull, "reopened", call.who)


def merge(call: Call) -> dict[str, Any]:
    """Merge a pull request; HTTPException 405 if a merge queue is required, which alone may merge."""
    pull, method = call.find("pulls", "number", "pull_number"), call.body.get("merge_method", "merge")
    if call.queue.method:
        rule = "Changes must be made through the merge queue"
        raise HTTPException(405, f"Repository rule violations found\n\n{rule}\n\n")
    with call.runner.hosting.moving:
        if call.body.get("sha", pull["head_sha"]) != pull["head_sha"]:
            raise HTTPException(409, "Head branch was modified. Review and try the merge again.")
        before = call.repo.refs()
        base = before.get(ref := f"refs/heads/{pull['base_ref']}")
        sha = None
        if pull["state"] == "open" and base:
            sha = merging.write(call.repo, pull, method, base=base, login=call.who, given=call.body)
        if sha is None:
            raise HTTPException(405, "Pull Request is not mergeable")
        call.repo.move(ref, sha, base)
        triggers.closed(call.runner, call.repo, pull, call.who, merged=sha)
        triggers.pushed(call.runner, call.repo, before, call.who)
    return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}


def comments(call: Call) -> list[Any]:
    """Answer with a pull request's comments, oldest first."""
    pull = call.find("pulls", "number", "issue_number")
    return [shapes.comment(call.repo, each) for each in call.page(call.of("comments", issue=pull["number"]))]


def add_comment(call: Call) -> dict[str, Any]:
    """Add a comment to a pull request, and answer with the comment."""
    pull = call.find("pulls", "number", "issue_number")
    return shapes.comment(call.repo, call.add("comments", issue=pull["number"], body=call.text("body")))


def edit_comment(call: Call) -> dict[str, Any]:
    """Change a comment's text, and answer with the comment."""
    comment = call.find("comments", "id", "comment_id")
    call.state.update(comment, body=call.text("body"))
    return shapes.comment(call.repo, comment)


def add_status(call: Call) -> dict[str, Any]:
    """Set a commit's status in one context, and answer with the status."""
    sha = call.repo.resolve(call.path["sha"])
    if sha is None:
        raise HTTPException(422, "Validation Failed: sha")
    given = {"context": "default", "description": None, "target_url": None, **call.body}
    return shapes.status(call.repo, call.add("statuses", sha=sha, **given))


def statuses(call: Call) -> list[Any]:
    """Answer with a commit's statuses, newest first."""
    found = call.of("statuses", sha=call.repo.resolve(call.path["ref"]))[::-1]
    return [shapes.status(call.repo, status) for status in call.page(found)]


def enqueue(call: Call) -> Response:
    """Add a pull request to the merge queue of its base; GitHub has this on a page and in GraphQL only."""
    if call.queue.method is None:
        raise HTTPException(422, "A merge queue is not enabled for the base branch")
    pull = call.find("pulls", "number", "pull_number")
    if pull["state"] == "closed" or call.of("queue", number=pull["number"], reason=None):
        raise HTTPException(422, "Pull request is closed, or already in the queue")
    call.queue.add(pull, call.who)
    return Response(status_code=204)
