"""Turns what happens at the stand-in (pushes, pull requests, dispatches, ended runs) into workflow runs."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from loop_demo.github import contract, events, shapes
from loop_demo.github.hosting import ZERO, Refs, Repository
from loop_demo.github.runs import Event, Runner
from loop_demo.github.shapes import LOGINS
from loop_demo.github.state import Record, now

Fits = Callable[[dict[str, Any]], bool]  # whether an event starts a workflow with this rule


def _event(name: str, payload: dict[str, Any], **fields: Any) -> Event:
    """Make an event for workflows; ValueError if its payload does not match GitHub's description."""
    contract.read().event(name, payload)
    return Event(name, payload, **fields)


def facts(runner: Runner, repo: Repository, who: str) -> dict[str, Any]:
    """Return the fields that the payload of every event has: the repository and the sender."""
    return {"repository": shapes.repository(runner, repo), "sender": shapes.user(runner, LOGINS[who])}


def pushed(runner: Runner, repo: Repository, before: Refs, after: Refs, who: str) -> None:
    """Handle moved refs: start the workflows that listen to pushes, and update the pull requests."""
    _choose_default_branch(repo, before, after)
    for ref in sorted(set(before) | set(after)):
        old, new = before.get(ref, ZERO), after.get(ref, ZERO)
        if old == new:
            continue
        payload = push_event(runner, repo, ref, old=old, new=new, who=who)
        runner.hooks.send("push", payload)
        if who != "bot" and new != ZERO:  # as at GitHub, a push with a workflow's token starts no workflow
            _start_on_push(runner, repo, payload)
        _follow(runner, repo, ref, new, who)


def _choose_default_branch(repo: Repository, before: Refs, after: Refs) -> None:
    """Make the first branch of an empty repository its default, unless the configured one was pushed too."""
    had, has = ([ref for ref in refs if ref.startswith("refs/heads/")] for refs in (before, after))
    if not had and has and f"refs/heads/{repo.default_branch}" not in has:
        repo.git("symbolic-ref", "HEAD", min(has))


def push_event(runner: Runner, repo: Repository, ref: str, *, old: str, new: str, who: str) -> dict[str, Any]:
    """Return the payload of GitHub's push event, which workflows and webhooks get."""
    commit = ZERO if new == ZERO else repo.resolve(new) or ZERO
    commits = [] if commit == ZERO else repo.commits(old, commit)
    page = f"{runner.url}/{repo.name}"
    payload = {
        "ref": ref,
        "base_ref": None,
        "before": old,
        "after": commit,
        "created": old == ZERO,
        "deleted": new == ZERO,
        "forced": ZERO not in (old, commit) and not repo.contains(commit, old),
        "compare": f"{page}/compare/{old[:12]}...{commit[:12]}",
        "head_commit": None if commit == ZERO else shapes.pushed_commit(page, repo.pushed_facts(commit)),
        "commits": [shapes.pushed_commit(page, found) for found in commits],
        "pusher": {"name": LOGINS[who]},
        **facts(runner, repo, who),
    }
    # GitHub gives these two times as Unix times in push events only, and Argo CD reads only that form.
    for key in ("created_at", "pushed_at"):
        text = payload["repository"][key]
        payload["repository"][key] = int(datetime.fromisoformat(text).timestamp())
    contract.read().event("push", payload)
    return payload


def _listening(repo: Repository, commit: str, event: str, fits: Fits) -> Iterator[str]:
    """Yield the workflow files at a commit that listen to an event, with a rule that fits."""
    for file, text in repo.workflows(commit).items():
        rule = events.trigger(events.parse(text), event)
        if rule is not None and fits(rule):
            yield file


def _start_on_push(runner: Runner, repo: Repository, payload: dict[str, Any]) -> None:
    ref, commit, head = payload["ref"], payload["after"], payload["head_commit"]
    if head is None or events.SKIP.search(str(head["message"])):
        return
    paths = repo.changed(payload["before"], commit)
    title = str(head["message"]).partition("\n")[0]
    event = Event("push", payload, commit=commit, head=commit, ref=ref, title=title)
    for file in _listening(repo, commit, "push", lambda rule: events.starts_on_push(rule, ref, paths)):
        runner.enqueue(repo, file, event)


def _follow(runner: Runner, repo: Repository, ref: str, new: str, who: str) -> None:
    """Update the open pull requests after a push: their heads move, and contained ones count as merged."""
    for pull in runner.state.of("pulls", state="open"):
        base, branch = runner.hosting.find(pull["repository"]), ref.removeprefix("refs/heads/")
        if base is None or branch == ref:
            continue
        if (pull["head_repository"], pull["head_ref"]) == (repo.name, branch):
            if new == ZERO:
                closed(runner, base, pull, who)
                continue
            base.borrow(repo, new)
            old = pull["head_sha"]
            runner.state.update(pull, head_sha=new)
            pull_changed(runner, base, pull, "synchronize", who, before=old, after=new)
        if (pull["repository"], pull["base_ref"]) == (repo.name, branch):
            if new == ZERO:
                closed(runner, base, pull, who)
            elif repo.contains(new, pull["head_sha"]):
                _mark_merged(runner, pull, new, who)
                closed(runner, base, pull, who)
            else:
                _try_merge(repo, pull)


def closed(runner: Runner, repo: Repository, pull: Record, who: str) -> None:
    """Close a pull request, and start the workflows that listen to that."""
    runner.state.update(pull, state="closed", closed_at=now())
    pull_changed(runner, repo, pull, "closed", who)


def merged(runner: Runner, repo: Repository, pull: Record, sha: str, *, before: Refs, who: str) -> None:
    """Close a merged pull request, and start the workflows that listen to the push to its base."""
    _mark_merged(runner, pull, sha, who)
    runner.state.update(pull, state="closed", closed_at=now())
    pushed(runner, repo, before, repo.refs(), who)
    pull_changed(runner, repo, pull, "closed", who)


def _mark_merged(runner: Runner, pull: Record, sha: str, who: str) -> None:
    runner.state.update(pull, merged=True, merged_by=LOGINS[who], merge_commit_sha=sha, merged_at=now())


def _try_merge(repo: Repository, pull: Record) -> str | None:
    """Update refs/pull/N/head and merge; return the merge commit, None on conflict or without a base."""
    number, head, base = pull["number"], pull["head_sha"], repo.resolve(f"refs/heads/{pull['base_ref']}")
    repo.move(f"refs/pull/{number}/head", head)
    tree = repo.merged_tree(base, head) if base else None
    if base is None or tree is None:
        return None
    merge = repo.commit(tree, [base, head], f"Merge {head} into {base}", "GitHub")
    repo.move(f"refs/pull/{number}/merge", merge)
    return merge


def pull_changed(runner: Runner, repo: Repository, pull: Record, action: str, who: str, **told: Any) -> None:
    """Start the workflows that listen to pull requests, at the merge commit of head and base, as GitHub does.

    `told` holds further fields of the event's payload, such as `changes` of an edit.
    """
    merge, head = _try_merge(repo, pull), pull["head_sha"]
    payload = {"action": action, "number": pull["number"], **told, **facts(runner, repo, who)}
    payload["pull_request"] = shapes.pull(runner, repo, pull)
    if merge is None:  # GitHub starts no workflow for a pull request with conflicts
        return
    if who == "bot" or events.SKIP.search(str(repo.commit_facts(head)["message"])):
        return
    title, ref = pull["title"], pull["head_ref"]
    event = _event("pull_request", payload, commit=merge, head=head, ref=ref, title=title)
    base = repo.resolve(f"{merge}^1") or ZERO
    paths = repo.changed_since_fork(base, head)

    def fits(rule: dict[str, Any]) -> bool:
        return events.starts_on_pull(rule, action, pull["base_ref"], paths)

    for file in _listening(repo, merge, event.name, fits):
        runner.enqueue(repo, file, event)


def checks_requested(runner: Runner, repo: Repository, entry: Record, who: str) -> list[dict[str, Any]]:
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
        **facts(runner, repo, who),
    }
    title = str(repo.commit_facts(head)["message"]).partition("\n")[0]
    event = _event("merge_group", payload, commit=head, head=head, ref=ref, title=title)

    def fits(rule: dict[str, Any]) -> bool:
        return events.starts_on_queue(rule, entry["base_ref"])

    return [runner.enqueue(repo, file, event) for file in _listening(repo, head, event.name, fits)]


def dispatched(
    runner: Runner, repo: Repository, file: str, *, ref: str, given: dict[str, Any], who: str
) -> dict[str, Any]:
    """Start one workflow by workflow_dispatch, and return its run.

    LookupError if there is no such workflow, Unprocessable if it cannot be dispatched or the inputs do not
    fit.
    """
    if file not in repo.workflows(repo.resolve(repo.default_branch) or ZERO):
        raise LookupError(file)
    commit = repo.resolve(ref)
    text = repo.workflows(commit).get(file) if commit else None
    if commit is None or text is None:
        raise events.Unprocessable(f"No ref found for: {ref}")
    workflow = events.parse(text)
    rule = events.trigger(workflow, "workflow_dispatch")
    if rule is None:
        raise events.Unprocessable("Workflow does not have 'workflow_dispatch' trigger")
    full = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    payload = {"ref": full, "workflow": f".github/workflows/{file}", **facts(runner, repo, who)}
    payload["inputs"] = events.dispatch_inputs(rule, given)
    title = str(workflow.get("name", file))
    event = _event("workflow_dispatch", payload, commit=commit, head=commit, ref=full, title=title)
    return runner.enqueue(repo, file, event)


def scheduled(runner: Runner, repo: Repository, file: str) -> dict[str, Any]:
    """Start one workflow as its timer would; LookupError if it does not exist or has no schedule."""
    commit = repo.resolve(repo.default_branch) or ZERO
    workflow = events.parse(repo.workflows(commit).get(file, ""))
    rule = events.trigger(workflow, "schedule")
    if rule is None:
        raise LookupError(file)
    payload = {"schedule": rule["cron"][0]["cron"], **facts(runner, repo, "person")}
    title = str(workflow.get("name", file))
    ref = f"refs/heads/{repo.default_branch}"
    event = Event("schedule", payload, commit=commit, head=commit, ref=ref, title=title)
    return runner.enqueue(repo, file, event)


def completed(runner: Runner, run: Record) -> None:
    """Start the workflows that listen to a run's end, from the default branch and with its rights."""
    repo = runner.hosting.find(run["repository"])
    commit = repo.resolve(repo.default_branch) if repo else None
    if repo is None or commit is None:
        return

    def fits(rule: dict[str, Any]) -> bool:
        return events.starts_on_run(rule, run["name"], run["head_branch"])

    waiting = list(_listening(repo, commit, "workflow_run", fits))
    if not waiting:
        return
    payload = {
        "action": "completed",
        "workflow": shapes.workflow(runner, repo, run),
        "workflow_run": shapes.ended_run(runner, repo, run),
        **facts(runner, repo, "person"),
    }
    ref = f"refs/heads/{repo.default_branch}"
    event = _event("workflow_run", payload, commit=commit, head=commit, ref=ref, title=run["display_title"])
    for file in waiting:
        runner.enqueue(repo, file, event)
