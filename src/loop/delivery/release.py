"""Bring a candidate into environments: by the bot's commit, or into production by a pull request."""

from collections.abc import Iterable

import click
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loop.core import plain
from loop.core.errors import LoopError, Superseded
from loop.core.git import Change, Git, PushRaced
from loop.core.github import GitHub, own
from loop.core.markdown import quiet
from loop.core.names import package, public
from loop.delivery import commit, evidence, steps
from loop.delivery.candidate import Candidate
from loop.delivery.commit import Action, Done, Now, Place
from loop.delivery.message import told
from loop.delivery.promote import rules
from loop.delivery.proposal import opened
from loop.delivery.state import State

REVIEWED = ("production",)  # a release enters only by a pull request, as a canary, with judge and drift


def release(git: Git, candidate: Candidate, environment: str, why: str = "") -> Done:
    """Put a candidate on stable, by one commit on main; none where it is there already.

    Superseded where the environment serves a later commit's release: only a rollback goes back.
    """
    if environment in REVIEWED:
        fix = f"./loop release {public(candidate.model)} --environment {environment} --pull-request"
        raise LoopError(f"{environment} takes a release only by a pull request", fix=fix)
    return commit.land(git, _action(git, candidate, environment, why, canary=False))


def watch(git: Git, place: Place, monitor: str, built: str, why: str = "") -> Done:
    """Let another image run judge and drift beside what is served, by one commit on main.

    No pull request: it was built from main's code and params, which one has brought there. Superseded where
    the image there was built from a later commit than `built`.
    """
    if place.environment not in REVIEWED:
        raise LoopError(f"{place.environment} has neither judge nor drift", fix="--environment production")

    def change(now: Now) -> State | None:
        after = steps.watched(now.state, monitor, built)
        if after:
            _follows(git, now, built, _watching(now.state))
        return after

    return commit.land(git, Action("monitor", place, change, why))


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
    action = _action(git, candidate, environment, why, canary=True)
    main = git.fetch()
    before = commit.read(git, main, action.place)
    now = Now(main, before)
    after = action.change(now)
    if after is None:
        return Done(None, before, before), None
    branch = f"release/{public(candidate.model)}/{candidate.track.key}"
    pushed = _push(git, main, branch, commit.change(action, now, after))
    title = f"{action.place}: {told(action.name, before, after)}"
    number = opened(github, branch, title, evidence.markdown(candidate, before, after))
    _checked(git, github, branch)
    return Done(pushed, before, after, tuple(now.notes)), number


def _action(git: Git, candidate: Candidate, environment: str, why: str, *, canary: bool) -> Action:
    _serves_on(git, candidate, environment)
    reasons = [quiet(reason) for reason in candidate.gate.reasons]
    said = "; ".join([why, *reasons] if why else reasons)
    track = candidate.track
    monitor = candidate.monitor.image if canary and candidate.monitor else None

    def change(now: Now) -> State | None:
        state = now.state
        pace = rules(git, now, candidate.model) if canary else steps.DEFAULT
        after = steps.released(state, track, canary=canary, monitor=monitor, rules=pace)
        if after is None:
            return None
        served = [one.commit for one in (state.stable, state.canary) if one]
        _follows(git, now, track.commit, served)
        if any(_later(git, now, track.commit, built) for built in _watching(state)):
            kept = {"monitor": state.monitor, "monitor_commit": state.monitor_commit}
            return after.model_copy(update=kept)
        return after

    return Action("release", Place(candidate.model, environment), change, said)


def _serves_on(git: Git, candidate: Candidate, environment: str) -> None:
    """LoopError where the candidate was built for another device than the environment's pods have."""
    built, wanted = candidate.track.device or "cpu", plain.device(git.root, candidate.model, environment)
    if built != wanted:
        model = public(candidate.model)
        raise LoopError(
            f"release {candidate.track.key} was built for {built}; params.yaml: models.{package(model)}"
            f".serve.device says that {environment} serves on {wanted}",
            fix=f"./loop bento {model} --environment {environment}, then rehearse, image and release it",
        )


def _watching(state: State) -> list[str]:
    """The commit that the image of judge and drift was built from; an older state names only stable's."""
    if state.monitor is None or state.stable is None:
        return []
    return [state.monitor_commit or state.stable.commit]


def _follows(git: Git, now: Now, commit: str, served: Iterable[str]) -> None:
    """Superseded unless `commit` is each of the commits that are served, or descends from it.

    One that main's history lacks, as after a forced push, is replaced with a note, or it would never go.
    """
    if not git.descends(now.commit, commit):
        raise LoopError(f"commit {commit[:12]} is not on origin's main", fix="push or merge it first")
    for one in dict.fromkeys(served):
        if _later(git, now, commit, one):
            raise Superseded(
                f"{commit[:12]} is superseded by {one[:12]}, which is served and does not precede it",
                fix="release a later commit; only `./loop rollback --to KEY` goes back",
            )
        if not git.descends(commit, one):
            now.notes.append(f"replaces what {one[:12]} was, a commit that main's history does not have")


def _later(git: Git, now: Now, commit: str, served: str) -> bool:
    """Whether main has the commit that is served, and `commit` does not come after it."""
    return not git.descends(commit, served) and git.descends(now.commit, served)


def _push(git: Git, main: str, branch: str, change: Change) -> str | None:
    """Make `branch` main plus the change, unless it is just that; returns the new commit."""
    listed = git.listed(branch)
    if listed and _proposes(git, git.fetch(branch), main, change):
        return None
    new = git.commit_on(main, change)
    git.push(new, branch, replaces=listed)
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
