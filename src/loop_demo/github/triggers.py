"""Turns what happens at the stand-in (pushes, pull requests, dispatches, ended runs) into workflow runs."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException

from loop_demo.github import contract, events, shapes
from loop_demo.github.hosting import EMPTY, ZERO, Refs, Repository
from loop_demo.github.runs import Event, Runner
from loop_demo.github.state import Record, now

Fits = Callable[[dict[str, Any]], bool]  # whether an event starts a workflow with this rule


def _event(repo: Repository, who: str, name: str, payload: dict[str, Any], **fields: str) -> Event:
    """Make an event with these further fields; ValueError if its payload does not match the description."""
    payload |= {"repository": shapes.repository(repo), "sender": shapes.user(repo, who)}
    return Event(name, contract.event(name, payload), **fields)


def _started(runner: Runner, repo: Repository, event: Event, fits: Fits) -> list[Record]:
    """Start the workflows at an event's commit that listen to it with a rule that fits; return their runs."""
    started = []
    for file, text in repo.workflows(event.commit).items():
        rule = events.trigger(events.parse(text), event.name)
        if rule is not None and fits(rule):
            started.append(runner.enqueue(repo, file, event))
    return started


def pushed(runner: Runner, repo: Repository, before: Refs, who: str) -> None:
    """Handle moved refs: start the workflows that listen to pushes, and update the pull requests."""
    after = repo.refs()
    _choose_default_branch(repo, before, after)
    for ref in sorted(before | after):
        old, new = before.get(ref, ZERO), after.get(ref, ZERO)
        if old != new:
            _announce(runner, repo, ref, old=old, new=new, who=who)
            _follow(runner, repo, ref, new, who)


def _choose_default_branch(repo: Repository, before: Refs, after: Refs) -> None:
    """Make the first branch of an empty repository its default, unless main was pushed too."""
    had, has = ([ref for ref in refs if ref.startswith("refs/heads/")] for refs in (before, after))
    if not had and has and f"refs/heads/{repo.default_branch}" not in has:
        repo.run("symbolic-ref", "HEAD", min(has))


def _announce(runner: Runner, repo: Repository, ref: str, *, old: str, new: str, who: str) -> None:
    """Send a moved ref's event to the webhooks, and start the workflows that listen to it."""
    commit = ZERO if new == ZERO else repo.resolve(new) or ZERO
    gone = commit == ZERO
    start = None if gone else repo.start(old, commit)
    payload = {
        "ref": ref,
        "before": old,
        "after": commit,
        "created": old == ZERO,
        "deleted": new == ZERO,
        "forced": old != ZERO and not gone and not repo.descends(commit, old),
        "head_commit": None if gone else repo.pushed_facts(commit),
        "commits": [] if gone else repo.commits(start, commit),
        "pusher": {"name": who},
    }
    title = "" if gone else repo.message(commit).partition("\n")[0]
    event = _event(repo, who, "push", payload, commit=commit, ref=ref, title=title)
    # GitHub gives these two times as Unix times in push events only, and Argo CD reads only that form.
    born = int(datetime.fromisoformat(contract.BORN).timestamp())
    event.payload["repository"] |= {"created_at": born, "pushed_at": born}
    runner.hooks.send("push", event.payload)
    if who == shapes.BOT or gone or events.SKIP.search(repo.message(commit)):
        return  # as at GitHub, a push with a workflow's token starts no workflow
    paths = repo.changed(start or EMPTY, commit)
    _started(runner, repo, event, lambda rule: events.starts_on_push(rule, ref, paths))


def _follow(runner: Runner, repo: Repository, ref: str, new: str, who: str) -> None:
    """Update the open pull requests after a push: their heads move, and contained ones count as merged."""
    if not ref.startswith("refs/heads/"):
        return
    moved = (repo.name, ref.removeprefix("refs/heads/"))
    for pull in runner.state.of("pulls", state="open"):
        base = runner.hosting.known(pull["repository"])
        moves_head = (pull["head_repository"], pull["head_ref"]) == moved
        moves_base = (pull["repository"], pull["base_ref"]) == moved
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
    ends = {"merged": True, "merged_by": who, "merge_commit_sha": merged, "merged_at": now()}
    runner.state.update(pull, state="closed", closed_at=now(), **(ends if merged else {}))
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
    # GitHub starts no workflow for a pull request with conflicts
    if merge is None or who == shapes.BOT or events.SKIP.search(repo.message(head)):
        return
    payload = {"action": action, "number": pull["number"], "pull_request": shapes.pull(repo, pull), **told}
    shown = {"ref": pull["head_ref"], "title": pull["title"], "head": head}
    event = _event(repo, who, "pull_request", payload, commit=merge, **shown)
    paths = repo.changed(f"{merge}^1...{head}")
    _started(runner, repo, event, lambda rule: events.starts_on_pull(rule, action, pull["base_ref"], paths))


def checks_requested(runner: Runner, repo: Repository, entry: Record) -> list[Record]:
    """Start the workflows that listen to a merge queue's request for checks, and return their runs."""
    head, ref = entry["queue_sha"], f"refs/heads/{entry['branch']}"
    group = {
        "head_sha": head,
        "head_ref": ref,
        "base_sha": entry["base_sha"],
        "base_ref": f"refs/heads/{entry['base_ref']}",
        "head_commit": repo.commit_facts(head),
    }
    payload = {"action": "checks_requested", "merge_group": group}
    title = repo.message(head).partition("\n")[0]
    event = _event(repo, entry["who"], "merge_group", payload, commit=head, ref=ref, title=title)
    base = entry["base_ref"]
    return _started(runner, repo, event, lambda rule: events.starts_on(rule, "checks_requested", base))


def dispatched(
    runner: Runner, repo: Repository, file: str, *, ref: str, given: dict[str, Any], who: str
) -> Record:
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
    inputs = events.dispatch_inputs(rule, given)
    payload = {"ref": full, "workflow": f".github/workflows/{file}", "inputs": inputs}
    event = _event(repo, who, "workflow_dispatch", payload, commit=commit, ref=full)
    return runner.enqueue(repo, file, event)


def scheduled(runner: Runner, repo: Repository, file: str) -> Record:
    """Start one workflow as its timer would; HTTPException 404 if it does not exist or has no schedule."""
    commit = repo.resolve(repo.default_branch) or ZERO
    rule = events.trigger(events.parse(repo.workflows(commit).get(file, "")), "schedule")
    if rule is None:
        raise HTTPException(404, "Not Found")
    payload, ref = {"schedule": rule["cron"][0]["cron"]}, f"refs/heads/{repo.default_branch}"
    event = _event(repo, "person", "schedule", payload, commit=commit, ref=ref)
    return runner.enqueue(repo, file, event)


def completed(runner: Runner, run: Record) -> None:
    """Start the workflows that listen to a run's end, from the default branch and with its rights."""
    repo = runner.hosting.known(run["repository"])
    if (commit := repo.resolve(repo.default_branch)) is None:
        return
    workflow, ended = shapes.workflow(repo, run), shapes.run(repo, run)
    payload = {"action": "completed", "workflow": workflow, "workflow_run": ended}
    shown = {"ref": f"refs/heads/{repo.default_branch}", "title": run["display_title"]}
    event = _event(repo, "person", "workflow_run", payload, commit=commit, **shown)
    _started(runner, repo, event, lambda rule: events.starts_on_run(rule, run["name"], run["head_branch"]))
