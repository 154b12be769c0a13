"""Releases a candidate: by a commit of the bot, or by a pull request into production."""

from collections.abc import Iterable

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loop.core import plain
from loop.core.errors import LoopError, Superseded
from loop.core.git import Change, Git, PushRaced
from loop.core.github import GitHub, own
from loop.core.markdown import quiet
from loop.core.names import package, public
from loop.core.project import Project
from loop.core.release_state import State
from loop.delivery import commit, evidence, steps
from loop.delivery.canary import rules
from loop.delivery.candidate import Candidate
from loop.delivery.commit import Action, Done, Now, Place, told
from loop.delivery.proposal import opened, tested

REVIEWED = ("production",)  # environments where a release needs a pull request and starts as a canary


def release(git: Git, candidate: Candidate, environment: str, why: str = "") -> Done:
    """Commit a candidate as the stable release of an environment; no commit if stable serves it already.

    Raises LoopError for an environment that needs a pull request, and Superseded if the environment serves a
    release of a later commit, because only a rollback may go back.
    """
    if environment in REVIEWED:
        fix = f"./loop release {public(candidate.model)} --environment {environment} --pull-request"
        raise LoopError(f"{environment} accepts a release only by pull request", fix=fix)
    return commit.land(git, _action(git, candidate, environment, why, canary=False))


def watch(git: Git, place: Place, monitor: str, built: str, why: str = "") -> Done:
    """Commit another monitor image, which runs the canary judge and the drift job, to an environment.

    No pull request is needed, because the image is built from code that was reviewed on its way to main.
    `built` is the commit it was built from. Raises Superseded if the current image was built from a later
    commit.
    """
    if place.environment not in REVIEWED:
        fix = "use --environment production"
        raise LoopError(f"{place.environment} runs neither judge nor drift job", fix=fix)

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
    """Open or update the pull request that adds a candidate as a canary at weight 0.

    The branch is main plus one commit. Returns the result, whose commit is None if the branch already
    proposes this release, and the pull request's number, which is None if main already has this release or if
    workflows may not open a pull request.
    """
    action = _action(git, candidate, environment, why, canary=True)
    main = git.fetch()
    before = commit.read(git, main, action.place)
    now = Now(main, before)
    after = action.change(now)
    if after is None:
        return Done(None, before), None
    branch = f"release/{public(candidate.model)}/{candidate.track.key}"
    pushed = _push(git, main, branch, commit.change(action, now, after))
    title = f"{action.place}: {told(action.name, before, after)}"
    number = opened(github, branch, title, evidence.markdown(candidate, before, after))
    # A run of a fork's pull request may be for the same commit, but it waits for a person's approval.
    if not any(own(run) for run in github.runs("ci.yml", head_sha=git.fetch(branch), branch=branch)):
        tested(github, branch)
    return Done(pushed, after, tuple(now.notes)), number


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
    """Raise LoopError if the candidate was built for another device than the environment serves on."""
    built = candidate.track.device or "cpu"
    wanted = plain.device(Project(git.root, candidate.model), environment)
    if built != wanted:
        model = public(candidate.model)
        raise LoopError(
            f"release {candidate.track.key} was built for {built}, but {environment} serves on {wanted} "
            f"according to params.yaml: models.{package(model)}.serve.device",
            fix=f"./loop bento {model} --environment {environment}, then rehearse, image and release it",
        )


def _watching(state: State) -> list[str]:
    """Return the commit that the monitor image was built from; for old states, the commit of stable."""
    if state.monitor is None or state.stable is None:
        return []
    return [state.monitor_commit or state.stable.commit]


def _follows(git: Git, now: Now, commit: str, served: Iterable[str]) -> None:
    """Raise Superseded unless `commit` equals or descends from each of the served commits.

    A served commit that main's history lacks, for instance after a forced push, is replaced with a note,
    because otherwise no release could ever replace it. Raises LoopError if `commit` itself is not on main.
    """
    if not git.descends(now.commit, commit):
        raise LoopError(f"commit {commit[:12]} is not on origin's main", fix="push or merge it first")
    for one in dict.fromkeys(served):
        if _later(git, now, commit, one):
            raise Superseded(
                f"{commit[:12]} is superseded by {one[:12]}, which is served and not older",
                fix="release a later commit; only `./loop rollback --to KEY` goes back to an earlier one",
            )
        if not git.descends(commit, one):
            now.notes.append(f"replaces a release of {one[:12]}, a commit that main's history lacks")


def _later(git: Git, now: Now, commit: str, served: str) -> bool:
    """Return whether the served commit is on main and `commit` does not descend from it."""
    return not git.descends(commit, served) and git.descends(now.commit, served)


def _push(git: Git, main: str, branch: str, change: Change) -> str | None:
    """Push a branch that is main plus one change, and return the new commit.

    Returns None if the branch has the change already, and main has not changed its files since.
    """
    if listed := git.listed(branch):
        tip = git.fetch(branch)
        base = git.run("merge-base", tip, main)
        if all(
            git.read(tip, path) == text and git.read(base, path) == git.read(main, path)
            for path, text in change.files.items()
        ):
            return None
    new = git.commit_on(main, change)
    git.push(new, branch, replaces=listed)
    return new
