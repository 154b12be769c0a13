"""Turns what happens at the stand-in (pushes, pull requests, dispatches, ended runs) into workflow runs."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException

from loop_demo.github import contract, events, shapes
from loop_demo.github.hosting import ZERO, Refs, Repository
from loop_demo.github.runs import Event, Runner
from loop_demo.github.shapes import LOGINS
from loop_demo.github.state import Record, now

Fits = Callable[[dict[str, Any]], bool]  # whether an event starts a workflow with this rule


def _event(name: str, payload: dict[str, Any], **fields: str) -> Event:
    """Make an event with these further fields; ValueError if its payload does not match the description."""
    return Event(name, contract.event(name, payload), **fields)


def _facts(runner: Runner, repo: Repository, who: str) -> dict[str, Any]:
    """Return the fields that the payload of every event has: the repository and the sender."""
    return {"repository": shapes.repository(runner, repo), "sender": shapes.user(runner, LOGINS[who])}


def pushed(runner: Runner, repo: Repository, before: Refs, who: str) -> None:
    """Handle moved refs: start the workflows that listen to pushes, and update the pull requests."""
    after = repo.refs()
    _choose_default_branch(repo, before, after)
    for ref in sorted(set(before) | set(after)):
        old, new = before.get(ref, ZERO), after.get(ref, ZERO)
        if old == new:
            continue
        payload = _push_payload(runner, repo, ref, old=old, new=new, who=who)
        runner.hooks.send("push", payload)
        if who != "bot" and new != ZERO:  # as at GitHub, a push with a workflow's token starts no workflow
            _start_on_push(runner, repo, payload)
        _follow(runner, repo, ref, new, who)


def _choose_default_branch(repo: Repository, before: Refs, after: Refs) -> None:
    """Make the first branch of an empty repository its default, unless main was pushed too."""
    had, has = ([ref for ref in refs if ref.startswith("refs/heads/")] for refs in (before, after))
    if not had and has and f"refs/heads/{repo.default_branch}" not in has:
        repo.run("symbolic-ref", "HEAD", min(has))


def _push_payload(
    runner: Runner, repo: Repository, ref: str, *, old: str, new: str, who: str
) -> dict[str, Any]:
    """Return the payload of GitHub's push event, which workflows and webhooks get."""
    commit = ZERO if new == ZERO else repo.resolve(new) or ZERO
    commits = [] if commit == ZERO else repo.commits(old, commit)
    page = f"{runner.url}/{repo.name}"
    payload = {
        "ref": ref,
        "before": old,
        "after": commit,
        "created": old == ZERO,
        "deleted": new == ZERO,
        "forced": ZERO not in (old, commit) and not repo.descends(commit, old),
        "compare": f"{page}/compare/{old[:12]}...{commit[:12]}",
        "head_commit": None if commit == ZERO else shapes.pushed_commit(page, repo.pushed_facts(commit)),
        "commits": [shapes.pushed_commit(page, found) for found in commits],
        "pusher": {"name": LOGINS[who]},
        **_facts(runner, repo, who),
    }
    # GitHub gives these two times as Unix times in push events only, and Argo CD reads only that form.
    born = int(datetime.fromisoformat(contract.BORN).timestamp())
    payload["repository"] |= {"created_at": born, "pushed_at": born}
    return contract.event("push", payload)


def _started(runner: Runner, repo: Repository, event: Event, fits: Fits) -> list[Record]:
    """Start the workflows at an event's commit that listen to it with a rule that fits; return their runs."""
    rules = {
        file: events.trigger(events.parse(text), event.name)
        for file, text in repo.workflows(event.commit).items()
    }
    return [
        runner.enqueue(repo, file, event) for file, rule in rules.items() if rule is not None and fits(rule)
    ]


def _start_on_push(runner: Runner, repo: Repository, payload: dict[str, Any]) -> None:
    ref, commit, head = payload["ref"], payload["after"], payload["head_commit"]
    if head is None or events.SKIP.search(str(head["message"])):
        return
    paths = repo.changed(payload["before"], commit)
    title = str(head["message"]).partition("\n")[0]
    event = Event("push", payload, commit=commit, ref=ref, title=title)
    _started(runner, repo, event, lambda rule: events.starts_on_push(rule, ref, paths))


def _follow(runner: Runner, repo: Repository, ref: str, new: str, who: str) -> None:
    """Update the open pull requests after a push: their heads move, and contained ones count as merged."""
    for pull in runner.state.of("pulls", state="open"):
        base, branch = runner.hosting.find(pull["repository"]), ref.removeprefix("refs/heads/")
        if base is None or branch == ref:
            continue
        moves_head = (pull["head_repository"], pull["head_ref"]) == (repo.name, branch)
        moves_base = (pull["repository"], pull["base_ref"]) == (repo.name, branch)
        if new == ZERO and (moves_head or moves_base):
            closed(runner, base, pull, who)
            continue
        if moves_head:
            base.borrow(repo, new)
            old = pull["head_sha"]
            runner.state.update(pull, head_sha=new)
            pull_changed(runner, base, pull, "synchronize", who, before=old, after=new)
        if moves_base and repo.descends(new, pull["head_sha"]):
            closed(runner, base, pull, who, merged=new)
        elif moves_base:
            _try_merge(repo, pull)


def closed(runner: Runner, repo: Repository, pull: Record, who: str, merged: str | None = None) -> None:
    """Close a pull request, merged by the commit `merged` or unmerged; start the workflows that listen."""
    if merged:
        fields = {"merged": True, "merged_by": LOGINS[who], "merge_commit_sha": merged, "merged_at": now()}
        runner.state.update(pull, **fields)
    runner.state.update(pull, state="closed", closed_at=now())
    pull_changed(runner, repo, pull, "closed", who)


def _try_merge(repo: Repository, pull: Record) -> str | None:
    """Update refs/pull/N/head and merge; return the merge commit, None on conflict or without a base."""
    number, head, base = pull["number"], pull["head_sha"], repo.resolve(f"refs/heads/{pull['base_ref']}")
    repo.move(f"refs/pull/{number}/head", head)
    tree = repo.merged_tree(base, head) if base else None
    if base is None or tree is None:
        return None
    merge = repo.written(tree, [base, head], f"Merge {head} into {base}", "GitHub")
    repo.move(f"refs/pull/{number}/merge", merge)
    return merge


def pull_changed(runner: Runner, repo: Repository, pull: Record, action: str, who: str, **told: Any) -> None:
    """Start the workflows that listen to pull requests, at the merge commit of head and base, as GitHub does.

    `told` holds further fields of the event's payload, such as `changes` of an edit.
    """
    merge, head = _try_merge(repo, pull), pull["head_sha"]
    if merge is None:  # GitHub starts no workflow for a pull request with conflicts
        return
    if who == "bot" or events.SKIP.search(str(repo.commit_facts(head)["message"])):
        return
    payload = {"action": action, "number": pull["number"], **told, **_facts(runner, repo, who)}
    payload["pull_request"] = shapes.pull(runner, repo, pull)
    shown = {"ref": pull["head_ref"], "title": pull["title"], "head": head}
    event = _event("pull_request", payload, commit=merge, **shown)
    paths = repo.changed_since_fork(repo.resolve(f"{merge}^1") or ZERO, head)
    _started(runner, repo, event, lambda rule: events.starts_on_pull(rule, action, pull["base_ref"], paths))


def checks_requested(runner: Runner, repo: Repository, entry: Record, who: str) -> list[Record]:
    """Start the workflows that listen to a merge queue's request for checks, and return their runs."""
    head, base, ref = entry["queue_sha"], entry["base_sha"], f"refs/heads/{entry['branch']}"
    payload = {
        "action": "checks_requested",
        "merge_group": {
            "head_sha": head,
            "head_ref": ref,
            "base_sha": base,
            "base_ref": f"refs/heads/{entry['base_ref']}",
            "head_commit": repo.commit_facts(head),
        },
        **_facts(runner, repo, who),
    }
    title = str(repo.commit_facts(head)["message"]).partition("\n")[0]
    event = _event("merge_group", payload, commit=head, ref=ref, title=title)
    return _started(
        runner, repo, event, lambda rule: events.starts_on(rule, event.payload["action"], entry["base_ref"])
    )


def dispatched(
    runner: Runner, repo: Repository, file: str, *, ref: str, given: dict[str, Any], who: str
) -> dict[str, Any]:
    """Start one workflow by workflow_dispatch, and return its run.

    HTTPException 404 if there is no such workflow, 422 if it cannot be dispatched or the inputs do not fit.
    """
    if file not in repo.workflows(repo.resolve(repo.default_branch) or ZERO):
        raise HTTPException(404, "Not Found")
    commit = repo.resolve(ref)
    text = repo.workflows(commit).get(file) if commit else None
    if commit is None or text is None:
        raise HTTPException(422, f"No ref found for: {ref}")
    rule = events.trigger(events.parse(text), "workflow_dispatch")
    if rule is None:
        raise HTTPException(422, "Workflow does not have 'workflow_dispatch' trigger")
    full = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    payload = {"ref": full, "workflow": f".github/workflows/{file}", **_facts(runner, repo, who)}
    payload["inputs"] = events.dispatch_inputs(rule, given)
    event = _event("workflow_dispatch", payload, commit=commit, ref=full)
    return runner.enqueue(repo, file, event)


def scheduled(runner: Runner, repo: Repository, file: str) -> dict[str, Any]:
    """Start one workflow as its timer would; HTTPException 404 if it does not exist or has no schedule."""
    commit = repo.resolve(repo.default_branch) or ZERO
    rule = events.trigger(events.parse(repo.workflows(commit).get(file, "")), "schedule")
    if rule is None:
        raise HTTPException(404, "Not Found")
    payload = {"schedule": rule["cron"][0]["cron"], **_facts(runner, repo, "person")}
    ref = f"refs/heads/{repo.default_branch}"
    return runner.enqueue(repo, file, Event("schedule", payload, commit=commit, ref=ref))


def completed(runner: Runner, run: Record) -> None:
    """Start the workflows that listen to a run's end, from the default branch and with its rights."""
    repo = runner.hosting.find(run["repository"])
    commit = repo.resolve(repo.default_branch) if repo else None
    if repo is None or commit is None:
        return
    payload = {
        "action": "completed",
        "workflow": shapes.workflow(runner, repo, run),
        "workflow_run": shapes.run(runner, repo, run),
        **_facts(runner, repo, "person"),
    }
    ref = f"refs/heads/{repo.default_branch}"
    event = _event("workflow_run", payload, commit=commit, ref=ref, title=run["display_title"])
    _started(runner, repo, event, lambda rule: events.starts_on_run(rule, run["name"], run["head_branch"]))
