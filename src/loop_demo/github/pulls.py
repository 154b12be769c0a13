"""Handlers of calls about pull requests and their merge queue."""

from typing import Any

from starlette.exceptions import HTTPException

from loop.core.git import GitError
from loop_demo.github import merging, shapes, triggers
from loop_demo.github.calls import Call
from loop_demo.github.hosting import ZERO, Repository
from loop_demo.github.state import Record


def pulls(call: Call) -> list[Any]:
    """Answer with pull requests, newest first. As at GitHub, a list shows fewer fields of each."""
    state, head, base = call.query.get("state", "open"), call.query.get("head"), call.query.get("base")
    found = [
        pull
        for pull in reversed(call.of("pulls"))
        if state in (pull["state"], "all")
        and head in (None, f"{pull['head_repository'].split('/')[0]}:{pull['head_ref']}")
        and base in (None, pull["base_ref"])
    ]
    return [shapes.pull_in_list(call.runner, call.repo, pull) for pull in call.page(found)]


def pull(call: Call) -> dict[str, Any]:
    """Answer with one pull request."""
    return shapes.pull(call.runner, call.repo, call.find("pulls", "number", "pull_number"))


def open_pull(call: Call) -> dict[str, Any]:
    """Open a pull request from a branch of the repository or of a fork."""
    if call.who == "bot" and not call.runner.pulls_by_actions:
        raise HTTPException(403, "GitHub Actions is not permitted to create or approve pull requests.")
    owner, _, head = call.text("head").rpartition(":")
    title, base, source = call.text("title"), call.text("base"), _source(call, owner)
    sha = source.resolve(f"refs/heads/{head}")
    if sha is None:
        raise HTTPException(422, "Validation Failed: head is invalid")
    call.repo.borrow(source, sha)
    with call.runner.hosting.moving:
        _check_base(call, base, source.name, head, sha)
        number = len(call.of("pulls")) + 1
        text = {"title": title, "body": call.prose(), "login": call.login}
        sides = {"head_repository": source.name, "head_ref": head, "head_sha": sha, "base_ref": base}
        ends = dict.fromkeys(("closed_at", "merged_at", "merged_by", "merge_commit_sha"))
        state = {"state": "open", "merged": False, **ends}
        pull = call.state.add("pulls", repository=call.repo.name, number=number, **text, **sides, **state)
        triggers.pull_changed(call.runner, call.repo, pull, "opened", call.who)
    return shapes.pull(call.runner, call.repo, pull)


def _source(call: Call, owner: str) -> Repository:
    """Return the repository of a pull request's branch: another owner's repository of this name is a fork."""
    name = f"{owner or call.repo.name.split('/')[0]}/{call.repo.name.split('/')[1]}"
    if (found := call.runner.hosting.find(name)) is None:
        raise HTTPException(422, "Validation Failed: head is invalid")
    return found


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
    with call.runner.hosting.moving:
        new, changes = _edits(call, pull)
        if changes:
            call.state.update(pull, **new)
            triggers.pull_changed(call.runner, call.repo, pull, "edited", call.who, changes=changes)
        _close_or_reopen(call, pull, call.body.get("state", pull["state"]))
    return shapes.pull(call.runner, call.repo, pull)


def _edits(call: Call, pull: Record) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields that an edit changes, and the `changes` of GitHub's event for it."""
    new: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    if "title" in call.body and call.text("title") != pull["title"]:
        new["title"], changes["title"] = call.text("title"), {"from": pull["title"]}
    if "body" in call.body and call.prose() != pull["body"]:
        new["body"], changes["body"] = call.prose(), {"from": pull["body"] or ""}
    old: str = pull["base_ref"]
    base: str = call.body.get("base", old)
    if base != old:
        if pull["state"] == "closed":
            raise HTTPException(422, "Cannot change the base branch of a closed pull request.")
        _check_base(call, base, pull["head_repository"], pull["head_ref"], pull["head_sha"])
        sha = call.repo.resolve(f"refs/heads/{old}") or ZERO
        new["base_ref"], changes["base"] = base, {"ref": {"from": old}, "sha": {"from": sha}}
    return new, changes


def _close_or_reopen(call: Call, pull: Record, state: str) -> None:
    if state == pull["state"]:
        return
    if state == "closed":
        triggers.closed(call.runner, call.repo, pull, call.who)
        return
    source = call.runner.hosting.find(pull["head_repository"])
    sha = source.resolve(f"refs/heads/{pull['head_ref']}") if source else None
    if state != "open" or pull["merged"] or source is None or sha is None:
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
            sha = merging.write(call.repo, pull, method, base=base, login=call.login, given=call.body)
        if sha is None:
            raise HTTPException(405, "Pull Request is not mergeable")
        try:
            call.repo.move(ref, sha, base)
        except GitError:
            raise HTTPException(405, "Base branch was modified. Review and try the merge again.") from None
        triggers.closed(call.runner, call.repo, pull, call.who, merged=sha)
        triggers.pushed(call.runner, call.repo, before, call.who)
    return {"sha": sha, "merged": True, "message": "Pull Request successfully merged"}


# The calls below exist only at the stand-in; GitHub has them on the pull request's page and in GraphQL.


def queue(call: Call) -> list[Any]:
    """Answer with all entries of the merge queue and their reasons."""
    with call.state.lock:  # copies, because the queue's thread changes the entries
        return [dict(entry) for entry in call.of("queue")]


def enqueue(call: Call) -> dict[str, Any]:
    """Add a pull request to the merge queue of its base, and answer with the entry."""
    if call.queue.method is None:
        raise HTTPException(422, "A merge queue is not enabled for the base branch")
    return call.queue.add(call.repo, call.find("pulls", "number", "pull_number"), call.who)
