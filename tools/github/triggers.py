"""What happens when something happens: pushes and pull requests start workflows, dispatches start one."""

from typing import Any

import events
import shapes
from hosting import ZERO, Repository
from runs import Event, Runner
from shapes import LOGINS


def facts(runner: Runner, repo: Repository, who: str) -> dict[str, Any]:
    """What every event carries."""
    return {
        "repository": shapes.repository(runner, repo),
        "sender": shapes.user(runner, LOGINS[who]),
    }


def pushed(runner: Runner, repo: Repository, before: dict[str, str], after: dict[str, str], who: str) -> None:
    """Refs have moved: start what listens to pushes, and bring pull requests up to date."""
    for ref in sorted(set(before) | set(after)):
        old, new = before.get(ref, ZERO), after.get(ref, ZERO)
        if old == new:
            continue
        payload = push_event(runner, repo, ref, old=old, new=new, who=who)
        runner.hooks.send("push", payload)
        if who == "person" and new != ZERO:  # what the workflows' own token pushes starts no workflow
            _start_on_push(runner, repo, payload)
        _follow(runner, repo, ref, new, who)


def push_event(runner: Runner, repo: Repository, ref: str, *, old: str, new: str, who: str) -> dict[str, Any]:
    """A ref's move as GitHub tells it, to workflows and to webhooks."""
    commit = ZERO if new == ZERO else repo.resolve(new) or ZERO
    commits = [] if commit == ZERO else repo.commits(old, commit)
    return {
        "ref": ref,
        "before": old,
        "after": commit,
        "created": old == ZERO,
        "deleted": new == ZERO,
        "forced": False,
        "head_commit": None if commit == ZERO else repo.commit_facts(commit),
        "commits": commits,
        "pusher": {"name": LOGINS[who]},
        **facts(runner, repo, who),
    }


def _start_on_push(runner: Runner, repo: Repository, payload: dict[str, Any]) -> None:
    ref, commit, head = payload["ref"], payload["after"], payload["head_commit"]
    if head is None or events.SKIP.search(str(head["message"])):
        return
    paths = repo.changed(payload["before"], commit)
    title = str(head["message"]).partition("\n")[0]
    event = Event("push", payload, commit=commit, head=commit, ref=ref, title=title)
    for file, text in repo.workflows(commit).items():
        rule = events.trigger(events.parse(text), event.name)
        if rule is not None and events.starts_on_push(rule, ref, paths):
            runner.enqueue(repo, file, event)


def _follow(runner: Runner, repo: Repository, ref: str, new: str, who: str) -> None:
    """A pushed branch moves the open pull requests that it is the head of."""
    with runner.state.look() as data:
        mine = [p for p in data["pulls"] if p["head_repository"] == repo.name and p["state"] == "open"]
    for pull in mine:
        base = runner.hosting.find(pull["repository"])
        if base and ref == f"refs/heads/{pull['head_ref']}":
            if new == ZERO:
                runner.state.update(pull, state="closed")
                continue
            base.borrow(repo, new)
            runner.state.update(pull, head_sha=new)
            pull_changed(runner, base, pull, "synchronize", who)


def pull_changed(runner: Runner, repo: Repository, pull: dict[str, Any], action: str, who: str) -> None:
    """Keep refs/pull/N, and start what listens: at the merge of head into base, as GitHub does."""
    number, head = pull["number"], pull["head_sha"]
    base = repo.resolve(pull["base_ref"])
    if base is None:
        return
    repo.move(f"refs/pull/{number}/head", head)
    tree = repo.merged_tree(base, head)
    if tree is None:  # in conflict: GitHub starts nothing
        return
    merge = repo.commit(tree, [base, head], f"Merge {head} into {base}", "GitHub")
    repo.move(f"refs/pull/{number}/merge", merge)
    if who == "bot" or events.SKIP.search(str(repo.commit_facts(head)["message"])):
        return
    payload = {
        "action": action,
        "number": number,
        "pull_request": shape(runner, repo, pull),
        **facts(runner, repo, who),
    }
    event = Event("pull_request", payload, commit=merge, head=head, ref=pull["head_ref"], title=pull["title"])
    paths = repo.changed_since_fork(base, head)
    for file, text in repo.workflows(merge).items():
        rule = events.trigger(events.parse(text), event.name)
        if rule is not None and events.starts_on_pull(rule, action, pull["base_ref"], paths):
            runner.enqueue(repo, file, event)


def shape(runner: Runner, repo: Repository, pull: dict[str, Any]) -> dict[str, Any]:
    """A pull request as GitHub shows it."""
    own = shapes.repository(runner, repo)
    fork = pull["head_repository"] != repo.name
    theirs = runner.hosting.find(pull["head_repository"]) or repo
    source = shapes.repository(runner, theirs, fork=fork)
    base = repo.resolve(pull["base_ref"]) or ""
    open_ = pull["state"] == "open"
    sides = {
        "head": {"ref": pull["head_ref"], "sha": pull["head_sha"], "repo": source},
        "base": {"ref": pull["base_ref"], "sha": base, "repo": own},
    }
    for side in sides.values():
        side["label"] = f"{side['repo']['owner']['login']}:{side['ref']}"
    return {
        **{
            key: value
            for key, value in pull.items()
            if key not in ("head_repository", "head_ref", "head_sha", "base_ref", "repository")
        },
        **sides,
        "html_url": f"{runner.url}/{repo.name}/pull/{pull['number']}",
        "url": f"{runner.url}/repos/{repo.name}/pulls/{pull['number']}",
        "draft": False,
        "mergeable": open_ and repo.merged_tree(base, pull["head_sha"]) is not None,
    }


def dispatched(
    runner: Runner, repo: Repository, file: str, *, ref: str, given: dict[str, Any], who: str
) -> dict[str, Any]:
    """Start one workflow by hand; it must listen to workflow_dispatch. LookupError, Unprocessable."""
    if file not in repo.workflows(repo.resolve("main") or ZERO):
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
    payload = {
        "inputs": events.dispatch_inputs(rule, given),
        "ref": full,
        "workflow": f".github/workflows/{file}",
        **facts(runner, repo, who),
    }
    title = str(workflow.get("name", file))
    event = Event("workflow_dispatch", payload, commit=commit, head=commit, ref=full, title=title)
    return runner.enqueue(repo, file, event)


def scheduled(runner: Runner, repo: Repository, file: str) -> dict[str, Any]:
    """Start one workflow as its timer would; it must have a schedule. LookupError."""
    commit = repo.resolve("main") or ZERO
    workflow = events.parse(repo.workflows(commit).get(file, ""))
    rule = events.trigger(workflow, "schedule")
    if rule is None:
        raise LookupError(file)
    payload = {"schedule": rule["cron"][0]["cron"], **facts(runner, repo, "person")}
    title = str(workflow.get("name", file))
    event = Event("schedule", payload, commit=commit, head=commit, ref="refs/heads/main", title=title)
    return runner.enqueue(repo, file, event)
