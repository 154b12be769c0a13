"""Bring a candidate into environments: by the bot's commit, or into production by a pull request."""

from functools import partial

import click
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loop.core.errors import LoopError
from loop.core.git import Change, Git, PushRaced
from loop.core.github import GitHub, own
from loop.core.names import public
from loop.delivery import commit, evidence, steps
from loop.delivery.candidate import Candidate
from loop.delivery.commit import Action, Done, Place
from loop.delivery.message import told
from loop.delivery.proposal import opened

REVIEWED = ("production",)  # a release enters only by a pull request, as a canary, with judge and drift


def release(git: Git, candidate: Candidate, environment: str, why: str = "") -> Done:
    """Put a candidate on stable, by one commit on main; none where it is there already."""
    if environment in REVIEWED:
        fix = f"./loop release {public(candidate.model)} --environment {environment} --pull-request"
        raise LoopError(f"{environment} takes a release only by a pull request", fix=fix)
    return commit.land(git, _action(candidate, environment, why, canary=False))


def watch(git: Git, place: Place, monitor: str, why: str = "") -> Done:
    """Let another image run judge and drift beside what is served, by one commit on main.

    No pull request: what goes into it are main's code and params, which one has brought there.
    """
    if place.environment not in REVIEWED:
        raise LoopError(f"{place.environment} has neither judge nor drift", fix="--environment production")
    return commit.land(git, Action("monitor", place, partial(steps.watched, monitor=monitor), why))


@retry(
    retry=retry_if_exception_type(PushRaced),
    wait=wait_random_exponential(multiplier=0.1, max=3),
    stop=stop_after_attempt(10),
    reraise=True,
)
def propose(
    git: Git, github: GitHub, candidate: Candidate, environment: str, why: str = ""
) -> tuple[Done, int | None]:
    """Open or bring up to date the pull request that sets a candidate as canary at weight 0.

    The branch is main with one commit on it. Returns the commit pushed (None where the branch already says
    it) and the pull request's number (None where main already has this release, or no workflow may open one).
    """
    action = _action(candidate, environment, why, canary=True)
    main = git.fetch()
    before = commit.read(git, main, action.place)
    after = action.change(before)
    if after is None:
        return Done(None, before, before), None
    branch = f"release/{public(candidate.model)}/{candidate.track.key}"
    pushed = _push(git, main, branch, commit.change(action, before, after))
    title = f"{action.place}: {told(action.name, before, after)}"
    number = opened(github, branch, title, evidence.markdown(candidate, before, after))
    _checked(git, github, branch)
    return Done(pushed, before, after), number


def _action(candidate: Candidate, environment: str, why: str, *, canary: bool) -> Action:
    said = "; ".join([why, *candidate.gate.reasons] if why else candidate.gate.reasons)
    monitor = candidate.monitor.image if canary else None
    change = partial(steps.released, track=candidate.track, canary=canary, monitor=monitor)
    return Action("release", Place(candidate.model, environment), change, said)


def _push(git: Git, main: str, branch: str, change: Change) -> str | None:
    """Make `branch` main plus the change, unless it is just that; returns the new commit."""
    listed = git.run("ls-remote", "origin", f"refs/heads/{branch}").split()
    if listed and _proposes(git, git.fetch(branch), main, change):
        return None
    new = git.commit_on(main, change)
    git.push(new, branch, replaces=listed[0] if listed else "")
    return new


def _checked(git: Git, github: GitHub, branch: str) -> None:
    """Start CI on a branch's tip unless it was started there: a push by a run's token starts no workflow.

    A run of a fork's pull request does not count. It may have the same commit, but waits for an approval.
    """
    if not any(own(run) for run in github.runs("ci.yml", head_sha=git.fetch(branch), branch=branch)):
        run = github.dispatch("ci.yml", {}, ref=branch)
        click.echo(f"{branch}: dispatched ci.yml{f': {run.url}' if run else ''}", err=True)


def _proposes(git: Git, tip: str, main: str, change: Change) -> bool:
    """Whether a branch has the change, and left main where these files were as they are now."""
    base = git.run("merge-base", tip, main)
    return all(
        git.read(tip, path) == text and git.read(base, path) == git.read(main, path)
        for path, text in change.files.items()
    )
