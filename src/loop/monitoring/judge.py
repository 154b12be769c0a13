"""The canary judge: compares canary and stable, decides promote, rollback or wait, and dispatches it once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import httpx
from pydantic import BaseModel, ValidationError

from loop.core import params
from loop.core.errors import LoopError, Rejected
from loop.core.git import Git
from loop.core.github import BROKEN, GitHub, GitHubError
from loop.core.names import public
from loop.core.release_state import State, file, recall
from loop.core.text import one_line
from loop.delivery import commit, steps
from loop.delivery.commit import Place
from loop.monitoring.fetch import fetch
from loop.monitoring.prometheus import Prometheus
from loop.monitoring.sample import Sample, Scrape, Unread
from loop.monitoring.verdict import Verdict, verdict

PATIENCE = 3  # checks in a row in which a canary may be unready or past its deadline before it is removed
SLOWEST = 3  # seconds until a probe without an answer counts as unready
ATTEMPTS = 3  # workflow runs that may end without any effect before the judge asks for a person
SHOWN = 60  # seconds within which GitHub lists a run after its dispatch
PROMPT = 20.0  # seconds to wait for GitHub; the pod is restarted if a check takes longer than two minutes
DAYS = timedelta(days=30)  # age of the oldest run that is searched by title
SKEW = timedelta(minutes=5)  # tolerated difference between GitHub's clock and the committer's clock
LONGEST = 1000  # maximum length of a log line in characters, because servers supply parts of it


@dataclass(frozen=True)
class Track:
    """The base URL of a track's pods, and the reader of its metrics."""

    url: str
    metrics: Scrape | Prometheus


@dataclass(frozen=True)
class Look:
    """The result of one check of a canary; `over` means that there is no canary, or no longer one."""

    line: str
    what: str = ""  # the judge's decision: promote, rollback, remove or wait
    dispatched: bool = False
    over: bool = False


@dataclass(frozen=True)
class Since:
    """When a canary was released and when its step began: Unix times by the committers' clocks."""

    canary: float  # Unix time at which the canary was released
    step: float  # Unix time at which the canary's current step began


@dataclass
class _Asked:
    """The judge's knowledge of the workflow runs for one action."""

    since: datetime  # just before the canary's start; earlier runs belong to another canary of this release
    open: list[int] = field(default_factory=list)  # ids of runs that had not ended at the last check
    ended: int = 0  # number of runs that have ended
    dispatches: int = 0  # number of runs that this process dispatched
    last: float = -float("inf")  # monotonic time of this process's latest dispatch
    known: bool = False  # whether the ids of all runs are known; if not, runs are searched by title
    expected: int = 0  # number of runs that a search finds once GitHub lists the latest


@dataclass
class Judge:
    """Watches the canary of one model in one environment.

    The judge's memory only saves requests: after a restart it reads everything again from Git, GitHub and the
    metrics. Without `github` it dispatches nothing. It counts the canary's answers from the commit that began
    the current step, and stable's answers from the commit that released the canary.
    """

    git: Git
    place: Place
    rules: params.Canary
    stable: Track
    canary: Track
    github: Callable[[], GitHub] | None = None  # a function, because the token may change meanwhile
    _seen: tuple[str, State] | None = None
    _unready: int = 0
    _overdue: int = 0
    _since: dict[tuple[str, str], Since] = field(default_factory=dict)
    _condemned: dict[str, Verdict] = field(default_factory=dict)
    _gone: dict[str, Verdict] = field(default_factory=dict)  # verdicts of canaries that have been removed
    _asked: dict[str, _Asked] = field(default_factory=dict)  # known workflow runs, by their title
    _silent: float = 0.0  # Unix time until which GitHub's rate limit allows no requests

    def look(self) -> Look:
        """Judge the canary that main names now, and dispatch the resulting workflow; returns the result."""
        main, state = self._state()
        if state.canary is None:
            return self._over(state)
        key, step = state.canary.key, steps.step_of(state)
        found, numbers = self._judge(main, state, key)
        found = self._standing(key, self._in_time(found, main, key, step))
        dispatched, asked = self._ask(found, main, key, step)
        said = f"{found.what}: {', '.join(found.reasons)}"
        line = "; ".join(part for part in (f"{self.place}: {key} at {step}", numbers, said, asked) if part)
        return Look(one_line(line, LONGEST), found.what, dispatched)

    def _over(self, state: State) -> Look:
        """Return the result if there is no canary, and forget past canaries, which may come again."""
        self._gone |= self._condemned
        for known in (self._condemned, self._since, self._asked):
            known.clear()
        ended = [
            f"{key} was rolled back: {why}"
            if (why := state.why_barred(key))
            else f"{key} was removed and may be proposed again: {', '.join(verdict.reasons)}"
            for key, verdict in self._gone.items()
        ]
        line = "; ".join([f"{self.place}: {steps.described(state)}", *ended])
        return Look(one_line(line, LONGEST), over=True)

    def _standing(self, key: str, found: Verdict) -> Verdict:
        """Return the verdict that stands: "remove" is replaced only by "rollback", which is final."""
        before = self._condemned.get(key)
        if before and (before.what, found.what) != ("remove", "rollback"):
            return before
        if found.what in {"rollback", "remove"}:
            self._condemned[key] = found
        return found

    def _in_time(self, found: Verdict, main: str, key: str, step: str) -> Verdict:
        """Remove a canary that waits past its deadline at one of the steps before the hand-over."""
        hours = (time.time() - self._began(main, key, step).step) / 3600
        late = found.what == "wait" and step.startswith("canary-") and hours > self.rules.deadline_hours
        self._overdue = self._overdue + 1 if late else 0
        if self._overdue < PATIENCE:
            return found
        limit = f"no verdict within {self.rules.deadline_hours:g} h at {step}"
        return Verdict("remove", (f"{limit}: {', '.join(found.reasons)}",))

    def _state(self) -> tuple[str, State]:
        """Return main's current commit, and the release state at that commit."""
        if self._seen is None or self._seen[0] != self.git.tip("main"):
            main = self.git.fetch("main")
            self._seen = main, commit.read(self.git, main, self.place)
        return self._seen

    def _judge(self, main: str, state: State, key: str) -> tuple[Verdict, str]:
        """Return the verdict on the canary, and the figures it is based on as text."""
        step = steps.step_of(state)
        track, name, wanted = (self.canary, "canary", state.canary)
        if step in {"handover", "return"}:
            track, name, wanted = (self.stable, "stable", state.stable)
        pods = (wanted and wanted.replicas) or 1
        idle = track is self.stable or step == "canary-0"  # the canary has no traffic to judge
        problem, missing = unready(track.url, key), None
        if problem and not idle:
            missing = self._missing(problem)
        else:
            self._unready = 0
        try:
            problem = problem or track.metrics.unlike(key, pods)
            ready = missing or (Verdict("wait", (f"{name} {problem}",)) if problem else READY)
            if idle or state.stable is None:
                return ready, ""
            began = self._began(main, key, step)
            stable = self.stable.metrics.sample(state.stable.key, began.canary)
            canary = self.canary.metrics.sample(key, began.step)
        except Unread as error:
            return missing or Verdict("wait", (str(error),)), ""
        found = verdict(stable, canary, self.rules)
        if found.what != "rollback":  # while pods are unreachable or incomplete, the best verdict is "wait"
            found = missing or (ready if problem and found.what == "promote" else found)
        return found, told(stable, canary)

    def _began(self, main: str, key: str, step: str) -> Since:
        """Return when the canary was released, and when its current step began."""
        if (key, step) not in self._since:
            self._since[key, step] = since(self.git, main, self.place)
        return self._since[key, step]

    def _missing(self, problem: str) -> Verdict:
        """Remove a canary that stays unready while it has traffic, unless stable is unready as well.

        Its release is not blocked, because a lost node or a failed image pull says nothing about the release.
        """
        if answers(self.stable.url):
            self._unready += 1
        return Verdict("remove" if self._unready >= PATIENCE else "wait", (f"canary {problem}",))

    def _ask(self, found: Verdict, main: str, key: str, step: str) -> tuple[bool, str]:
        """Dispatch promote.yml or rollback.yml unless a run is open; returns (dispatched, message)."""
        if self.github is None or found.what == "wait":
            return False, ""
        model, environment = public(self.place.model), self.place.environment
        inputs = {"model": model, "environment": environment, "key": key}
        reason = one_line("; ".join(found.reasons))
        if found.what == "promote":
            workflow, title = "promote.yml", f"Promote {model}: {environment} {key} from {step}"
            inputs |= {"from": step, "reason": reason}
        else:
            workflow, title = "rollback.yml", f"Roll back {model}: {environment} {key}"
            inputs |= {"why": reason, "bar": "yes" if found.what == "rollback" else "no"}
        if self._silent > time.time():
            until = datetime.fromtimestamp(self._silent, UTC)
            return False, f"GitHub's rate limit allows no requests until {until:%H:%M:%S} UTC"
        released = datetime.fromtimestamp(self._began(main, key, step).canary, UTC)
        asked = self._asked.setdefault(title, _Asked(released - SKEW))
        try:
            return self._dispatch(replace(self.github(), patience=PROMPT), workflow, title, inputs, step)
        except GitHubError as error:
            self._silent = time.time() + error.wait
            asked.known &= not error.unclear
            if BAD_INPUT <= error.status < BROKEN:
                raise
            return False, str(error)  # GitHub has an outage; the next check tries again
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            asked.known = False
            return False, f"GitHub's answer has an unexpected form: {error!r}"

    def _dispatch(
        self, github: GitHub, workflow: str, title: str, inputs: dict[str, str], step: str
    ) -> tuple[bool, str]:
        asked = self._asked[title]
        if against := self._against(github, workflow, title, (inputs["key"], step)):
            return False, against
        run = github.dispatch(workflow, inputs)
        asked.dispatches, asked.last = asked.dispatches + 1, time.monotonic()
        if run is None:
            asked.known, asked.expected = False, asked.ended + 1
            return True, f"dispatched {workflow}"
        asked.open.append(run.id)
        return True, f"dispatched {workflow}: {run.url}"

    def _against(self, github: GitHub, workflow: str, title: str, at: tuple[str, str]) -> str | None:
        """Return why no workflow is dispatched now: a run is open or not listed yet, or main has changed."""
        asked = self._asked[title]
        new = time.monotonic() - asked.last < SHOWN
        if not asked.known:
            self._search(github, workflow, title, asked)
            if new and len(asked.open) + asked.ended < asked.expected:
                return "a run was dispatched and is not listed yet"
            asked.known = True
        for id_ in list(asked.open):
            run = github.run(id_)
            if run is None and new:
                return f"run {id_} is not listed yet"
            if run and run["status"] != "completed":
                return f"run {id_} is {run['status']}"
            asked.open.remove(id_)
            asked.ended += 1
        _, state = self._state()
        if state.canary is None or (state.canary.key, steps.step_of(state)) != at:
            return "main has changed meanwhile"
        if (times := max(asked.ended, asked.dispatches)) >= ATTEMPTS:
            raise Rejected(f"{title!r} ran {times} times without effect", fix="read the runs' logs")
        return None

    def _search(self, github: GitHub, workflow: str, title: str, asked: _Asked) -> None:
        """Find this action's runs by title, after a restart or if a dispatch returned no id.

        In a fork that has changed `run-name` the search finds nothing, and the judge dispatches once more.
        That is harmless, because promote and rollback change nothing unless main is still at the step they
        start from.
        """
        oldest = max(datetime.now(UTC) - DAYS, asked.since)
        runs = github.trusted(workflow, oldest, "workflow_dispatch")
        mine = [run for run in runs if run["display_title"] == title]
        found = [run["id"] for run in mine if run["status"] != "completed"]
        asked.ended = max(asked.ended, len(mine) - len(found))
        asked.open = sorted({*asked.open, *found})


READY = Verdict("promote", ("ready",))
BAD_INPUT = 400  # GitHub's statuses from 400 up to BROKEN need a person to change something


class Health(BaseModel):
    """The JSON body that a server's /health answers."""

    model_version: str


def unready(url: str, key: str) -> str | None:
    """Return why a track may not get traffic: it is not ready, or serves another release than Git names."""
    try:
        ready, health = (fetch(f"{url}{path}", SLOWEST) for path in ("/readyz", "/health"))
    except httpx.HTTPError as error:
        return f"does not answer: {type(error).__name__}"
    if not ready.is_success or not health.is_success:
        return f"is not ready: /readyz {ready.status_code}, /health {health.status_code}"
    try:
        said = Health.model_validate_json(health.content)
    except ValidationError:
        return "does not answer: /health has no model_version"
    return None if said.model_version == key else f"serves {one_line(said.model_version, 40)}, not {key}"


def answers(url: str) -> bool:
    """Return whether a track is ready, whichever release it serves."""
    try:
        return fetch(f"{url}/readyz", SLOWEST).is_success
    except httpx.HTTPError:
        return False


def told(stable: Sample, canary: Sample) -> str:
    """Summarise the answers of both tracks in one line."""

    def p99(sample: Sample) -> str:
        return f"{1000 * sample.latency.quantile(0.99):.0f} ms" if sample.latency.total else "unknown"

    refused = f", {canary.refused:.0f} refused" if canary.refused else ""
    mine = f"{canary.requests:.0f} requests, {canary.failed:.0f} failed{refused}, p99 {p99(canary)}"
    parts = [f"{mine} (stable {stable.requests:.0f}, {p99(stable)})"]
    if stable.scores.total and canary.scores.total:
        parts.append(f"PSI {stable.scores.psi(canary.scores):.2f}")
    for name, side in (("canary", canary), ("stable", stable)):
        if side.skipped:
            parts.append(f"{len(side.skipped)} series of {name} skipped")
    if odd := canary.skipped + stable.skipped:
        parts.append(f"the first: {one_line(odd[0], 150)}")
    return ", ".join(parts)


def since(git: Git, at: str, place: Place) -> Since:
    """Return when the canary in the commit `at` was released, and when its current step began.

    Only main's first-parent line is read, so a merged branch counts from its merge. Raises LoopError if the
    commit has no canary.
    """
    path = file(place.environment, place.model)
    lines = git.run("log", "--first-parent", "--format=%H %ct", at, "--", path).splitlines()
    canary = commit.read(git, at, place).canary
    if canary is None:
        raise LoopError(f"{path}: no canary in {at[:12]}")
    times: list[float] = []
    for line in lines:
        changed, committed = line.split()
        try:
            before = recall(git.read(changed, path) or "", "canary", canary.key)
        except LoopError:  # release.yaml was deleted or older, so this commit is before the canary
            break
        if before is None:
            break
        times.append(float(committed))
    return Since(canary=times[-1], step=times[0])


def watch(
    look: Callable[[], Look],
    every: float,
    *,
    forever: bool = False,
    deadline: float | None = None,
    alive: Path | None = None,
) -> Look:
    """Call `look` every `every` seconds and print each new result, until a result says that no canary runs.

    Returns that last result. With `forever` the loop continues after such a result, and after an exception of
    `look`. After each call the file `alive` is touched, for the liveness probe. Raises Rejected when
    `deadline` seconds have passed.
    """
    ends, said = time.monotonic() + deadline if deadline else float("inf"), ""
    while True:
        try:
            found = look()
        except Exception as error:
            if not forever:  # the loop must survive any answer of a server
                raise
            found = Look(one_line(f"{type(error).__name__}: {error}", LONGEST), "wait")
        if found.line != said:
            click.echo(found.line)
        said = found.line
        if alive:
            alive.touch()
        if found.over and not forever:
            return found
        if time.monotonic() + every > ends:
            raise Rejected(f"after {deadline:g} s: {found.line}")
        time.sleep(every)
