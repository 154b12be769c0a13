"""Releases a candidate: by a commit of the bot, or by a pull request into production."""

from collections.abc import Callable, Iterable

from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from loop.core import plain
from loop.core.errors import LoopError, Superseded
from loop.core.git import Git, PushRaced
from loop.core.github import GitHub, own
from loop.core.markdown import quiet
from loop.core.names import package, public
from loop.core.project import Project
from loop.core.release_state import State
from loop.delivery import commit, evidence, steps
from loop.delivery.canary import rules
from loop.delivery.candidate import Candidate
from loop.delivery.commit import Done, Now, Place, told
from loop.delivery.proposal import opened, pushed, tested

REVIEWED = ("production",)  # environments where a release needs a pull request and starts as a canary


def release(git: Git, candidate: Candidate, environment: str, why: str = "") -> Done:
    """Commit a candidate as the stable release of an environment; no commit if stable serves it already.

    Raises LoopError for an environment that needs a pull request or if the candidate's commit is not on main,
    and Superseded if the environment serves a release of a later commit, because only a rollback may go back.
    """
    if environment in REVIEWED:
        fix = f"./loop release {public(candidate.model)} --environment {environment} --pull-request"
        raise LoopError(f"{environment} accepts a release only by pull request", fix=fix)
    decide = _decider(git, candidate, environment, canary=False)
    return commit.land(git, "release", Place(candidate.model, environment), decide, _why(candidate, why))


def watch(git: Git, place: Place, monitor: str, built: str, why: str = "") -> Done:
    """Commit another monitor image, which runs the canary judge and the drift job, to an environment.

    No pull request is needed, because the image is built from code that was reviewed on its way to main.
    `built` is the commit it was built from. Raises Superseded if the current image was built from a later
    commit.
    """
    if place.environment not in REVIEWED:
        fix = "use --environment production"
        raise LoopError(f"{place.environment} runs neither judge nor drift job", fix=fix)

    def decide(now: Now) -> State | None:
        state = now.state
        after = steps.watched(state, monitor, built)
        if after:
            # A state from before `monitorCommit` lacks it; its image came with the release on stable.
            by = state.monitor_commit or (state.stable and state.stable.commit)
            _follows(git, now, built, [by] if state.monitor and by else [])
        return after

    return commit.land(git, "monitor", place, decide, why)


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
    place, main = Place(candidate.model, environment), git.fetch()
    now = Now(main, commit.read(git, main, place))
    after = _decider(git, candidate, environment, canary=True)(now)
    if after is None:
        return Done(None, now.state), None
    branch = f"release/{public(candidate.model)}/{candidate.track.key}"
    new = git.commit_on(main, commit.written("release", place, now, after, _why(candidate, why)))
    there = pushed(git, branch)
    if changed := not _proposes(git, there, new):
        git.push(new, branch, replaces=there)
    title = f"{place}: {told('release', now.state, after)}"
    number = opened(github, branch, title, evidence.markdown(candidate, now.state, after))
    # A run of a fork's pull request may be for the same commit, but it waits for a person's approval.
    if not any(own(run) for run in github.runs("ci.yml", head_sha=git.fetch(branch), branch=branch)):
        tested(github, branch)
    return Done(new if changed else None, after, tuple(now.notes)), number


def _proposes(git: Git, tip: str, commit: str) -> bool:
    """Whether a branch's tip has the changes of `commit`, and main has not changed the same files since.

    Other files do not count, because a person's commit to the branch must stay.
    """
    base = git.fork_point(tip, f"{commit}^")
    if not base:
        return False
    changes = ("diff-tree", "-r", "--no-renames")  # prints each path with its content before and after
    there, new = (
        set(git.run(*changes, *ends).splitlines()) for ends in ((base, tip), (f"{commit}^", commit))
    )
    return new <= there


def _why(candidate: Candidate, why: str) -> str:
    return "; ".join(part for part in (why, *map(quiet, candidate.gate.reasons)) if part)


def _decider(
    git: Git, candidate: Candidate, environment: str, *, canary: bool
) -> Callable[[Now], State | None]:
    """Return the function that decides which state follows when the candidate is released.

    Raises LoopError if the candidate was built for another device than the environment serves on.
    """
    track = candidate.track
    built, wanted = track.device or "cpu", plain.device(Project(git.root, candidate.model), environment)
    if built != wanted:
        model = public(candidate.model)
        raise LoopError(
            f"release {track.key} was built for {built}, but {environment} serves on {wanted} "
            f"according to params.yaml: models.{package(model)}.serve.device",
            fix=f"./loop bento {model} --environment {environment}, then rehearse, image and release it",
        )

    def decide(now: Now) -> State | None:
        state, monitor = now.state, candidate.monitor if canary else None
        pace = rules(git, now, candidate.model) if canary else steps.DEFAULT
        after = steps.released(state, track, canary=canary, monitor=monitor, rules=pace)
        if after is None:
            return None
        _follows(git, now, track.commit, [one.commit for one in (state.stable, state.canary) if one])
        if (built := state.monitor_commit) and _later(git, now, track.commit, built):
            return after.model_copy(update={"monitor": state.monitor, "monitor_commit": built})
        return after

    return decide


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
