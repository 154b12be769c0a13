"""The judge beside a canary: compares both tracks, says promote, rollback or wait, and dispatches it once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import httpx
from pydantic import BaseModel, ValidationError

from loop.core import params
from loop.core.errors import Rejected
from loop.core.git import Git
from loop.core.github import BROKEN, GitHub, GitHubError
from loop.core.names import public
from loop.core.text import one_line
from loop.delivery import commit, steps
from loop.delivery.commit import Place
from loop.delivery.state import State
from loop.monitoring.fetch import get
from loop.monitoring.sample import Reader, Sample, Unread
from loop.monitoring.since import Since, since
from loop.monitoring.verdict import Verdict, verdict

PATIENCE = 3  # looks in a row at which a canary with traffic may be unready, or any canary over its deadline
SLOWEST = 3  # seconds for a probe's answer: more is unready
ATTEMPTS = 3  # runs that ended and changed nothing, before a person is needed
SHOWN = 60  # seconds within which GitHub shows a run that was dispatched
PROMPT = (
    20.0  # seconds that a call may wait for GitHub: the pod is restarted after two minutes without a look
)
DAYS = timedelta(days=30)  # how far back runs are searched by title
SKEW = timedelta(minutes=5)  # by which the clocks of GitHub and of whoever commits may differ
LONGEST = 1000  # characters of a look's line: servers write parts of it


@dataclass(frozen=True)
class Track:
    """Where a track's endpoints answer, and where its metrics are read."""

    url: str
    metrics: Reader


@dataclass(frozen=True)
class Look:
    """What one look found; `over` when there is no canary, or none any more."""

    line: str
    what: str = ""  # promote, rollback, remove, wait
    dispatched: bool = False
    over: bool = False


@dataclass
class _Asked:
    """What is known of the runs of one action."""

    since: datetime  # runs before it are another canary's, of the same release
    open: list[int] = field(default_factory=list)  # ids of runs that had not ended when last read
    ended: int = 0  # number of runs that have
    dispatches: int = 0  # number of those that this judge made
    last: float = -float("inf")  # when the latest of them was made (monotonic)
    known: bool = False  # whether every run's id is known; if not, runs are searched by title
    expected: int = 0  # number of runs that the search finds once the latest is listed


@dataclass
class Judge:
    """Watches one place.

    What it remembers only saves calls: a judge that was restarted reads it anew from Git, GitHub and metrics.
    Without `github` it dispatches nothing. The canary's answers count from the commit that began its step,
    stable's from the commit that released the canary.
    """

    git: Git
    place: Place
    rules: params.Canary
    stable: Track
    canary: Track
    github: Callable[[], GitHub] | None = None  # called at each use, because the token may have changed
    _seen: tuple[str, State] | None = None
    _unready: int = 0
    _overdue: int = 0
    _since: dict[tuple[str, str], Since] = field(default_factory=dict)
    _condemned: dict[str, Verdict] = field(default_factory=dict)
    _gone: dict[str, Verdict] = field(default_factory=dict)  # what the canaries that are no more went for
    _asked: dict[str, _Asked] = field(default_factory=dict)  # by the title of an action's runs
    _silent: float = 0.0  # GitHub asked for no calls until then (Unix time)

    def look(self) -> Look:
        """Judge once by what main says now, and dispatch what follows from it."""
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
        """No canary (any more). A removed release may come again, so what is known of canaries is dropped."""
        self._gone |= self._condemned
        for known in (self._condemned, self._since, self._asked):
            known.clear()
        ended = [
            f"{key} was rolled back: {why}"
            if (why := state.why_barred(key))
            else f"{key} was removed, and may come again: {', '.join(verdict.reasons)}"
            for key, verdict in self._gone.items()
        ]
        line = "; ".join([f"{self.place}: {steps.described(state)}", *ended])
        return Look(one_line(line, LONGEST), over=True)

    def _standing(self, key: str, found: Verdict) -> Verdict:
        """The verdict that stands: no later answer saves a canary that is to go, but one may bar it."""
        before = self._condemned.get(key)
        if before and (before.what, found.what) != ("remove", "rollback"):
            return before
        if found.what in {"rollback", "remove"}:
            self._condemned[key] = found
        return found

    def _in_time(self, found: Verdict, main: str, key: str, step: str) -> Verdict:
        """Remove a canary that waits too long at one of its own steps; after those it has been judged."""
        hours = (time.time() - self._began(main, key, step).step) / 3600
        late = found.what == "wait" and step.startswith("canary-") and hours > self.rules.deadline_hours
        self._overdue = self._overdue + 1 if late else 0
        if self._overdue < PATIENCE:
            return found
        limit = f"no verdict within {self.rules.deadline_hours:g} h at {step}"
        return Verdict("remove", (f"{limit}: {', '.join(found.reasons)}",))

    def _state(self) -> tuple[str, State]:
        """The commit that main is at, and the place's state there."""
        if self._seen is None or self._seen[0] != self.git.tip("main"):
            main = self.git.fetch("main")
            self._seen = main, commit.read(self.git, main, self.place)
        return self._seen

    def _judge(self, main: str, state: State, key: str) -> tuple[Verdict, str]:
        """The verdict, and the numbers it rests on."""
        step = steps.step_of(state)
        track, name, wanted = (self.canary, "canary", state.canary)
        if step in {"handover", "return"}:
            track, name, wanted = (self.stable, "stable", state.stable)
        pods = (wanted and wanted.replicas) or 1
        idle = track is self.stable or step == "canary-0"  # no traffic of the canary's to judge
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
            stable, canary = self._samples(main, state.stable.key, key, step)
        except Unread as error:
            return missing or Verdict("wait", (str(error),)), ""
        found = verdict(stable, canary, self.rules)
        if found.what != "rollback":  # one that cannot be reached, or is not all there yet, waits at best
            found = missing or (ready if problem and found.what == "promote" else found)
        return found, told(stable, canary)

    def _began(self, main: str, key: str, step: str) -> Since:
        """When the canary was released, and when it came to this step."""
        if (key, step) not in self._since:
            self._since[key, step] = since(self.git, main, self.place)
        return self._since[key, step]

    def _samples(self, main: str, old: str, key: str, step: str) -> tuple[Sample, Sample]:
        """Stable's answers since the canary was released, and the canary's since its step began."""
        began = self._began(main, key, step)
        return self.stable.metrics.sample(old, began.canary), self.canary.metrics.sample(key, began.step)

    def _missing(self, problem: str) -> Verdict:
        """Remove a canary with traffic that stays unready, unless stable is unready, too.

        Its release is not barred: a node that went, or an image that cannot be pulled, says nothing of it.
        """
        if answers(self.stable.url):
            self._unready += 1
        return Verdict("remove" if self._unready >= PATIENCE else "wait", (f"canary {problem}",))

    def _ask(self, found: Verdict, main: str, key: str, step: str) -> tuple[bool, str]:
        """Dispatch promote.yml or rollback.yml unless it runs already; whether it did, and what to print."""
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
            return False, f"GitHub asks for no calls until {until:%H:%M:%S} UTC"
        released = datetime.fromtimestamp(self._began(main, key, step).canary, UTC)
        asked = self._asked.setdefault(title, _Asked(released - SKEW))
        try:
            return self._dispatch(replace(self.github(), patience=PROMPT), workflow, title, inputs, step)
        except GitHubError as error:
            self._silent = time.time() + error.wait
            asked.known &= not error.unclear
            if BAD_INPUT <= error.status < BROKEN:
                raise
            return False, str(error)  # an outage: the next look asks again
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            asked.known = False
            return False, f"GitHub's answer is of another shape: {error!r}"

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
        """Why not to dispatch now: a run of this action is open or not shown yet, or main has moved on."""
        asked = self._asked[title]
        new = time.monotonic() - asked.last < SHOWN
        if not asked.known:
            self._search(github, workflow, title, asked)
            if new and len(asked.open) + asked.ended < asked.expected:
                return "dispatched, not listed yet"
            asked.known = True
        for id_ in list(asked.open):
            run = github.run(id_)
            if run is None and new:
                return f"run {id_} is not shown yet"
            if run and run["status"] != "completed":
                return f"run {id_} is {run['status']}"
            asked.open.remove(id_)
            asked.ended += 1
        _, state = self._state()
        if state.canary is None or (state.canary.key, steps.step_of(state)) != at:
            return "main has moved on"
        if (times := max(asked.ended, asked.dispatches)) >= ATTEMPTS:
            raise Rejected(f"{title!r} ran {times} times, and nothing changed", fix="see the runs' logs")
        return None

    def _search(self, github: GitHub, workflow: str, title: str, asked: _Asked) -> None:
        """Find this action's runs by title: after a restart, or where a dispatch returned no id.

        A fork that has changed `run-name` finds none, and dispatches once more than it had to. That is
        harmless, because promote and rollback change nothing unless main is still where they start from.
        """
        oldest = max(datetime.now(UTC) - DAYS, asked.since)
        runs = github.trusted(workflow, oldest, "workflow_dispatch")
        mine = [run for run in runs if run["display_title"] == title]
        found = [run["id"] for run in mine if run["status"] != "completed"]
        asked.ended = max(asked.ended, len(mine) - len(found))
        asked.open = sorted({*asked.open, *found})


READY = Verdict("promote", ("ready",))
BAD_INPUT = 400  # GitHub's statuses from here up to BROKEN ask a person to change something


class Health(BaseModel):
    """What a server says of itself."""

    model_version: str


def unready(url: str, key: str) -> str | None:
    """What keeps a track from traffic: not ready, or not (yet) the release that Git names."""
    try:
        ready, health = (get(f"{url}{path}", SLOWEST) for path in ("/readyz", "/health"))
    except httpx.HTTPError as error:
        return f"does not answer: {type(error).__name__}"
    if not ready.good or not health.good:
        return f"is not ready: /readyz {ready.status}, /health {health.status}"
    try:
        said = Health.model_validate_json(health.body)
    except ValidationError:
        return "does not answer: /health names no model_version"
    return None if said.model_version == key else f"serves {one_line(said.model_version, 40)}, not {key}"


def answers(url: str) -> bool:
    """Whether a track is ready, whatever it serves."""
    try:
        return get(f"{url}/readyz", SLOWEST).good
    except httpx.HTTPError:
        return False


def told(stable: Sample, canary: Sample) -> str:
    """Both samples in a few numbers."""

    def p99(sample: Sample) -> str:
        return f"{1000 * sample.latency.quantile(0.99):.0f} ms" if sample.latency.total else "unknown"

    shift = (
        f"PSI {stable.scores.psi(canary.scores):.2f}" if stable.scores.total and canary.scores.total else ""
    )
    odd = {name: len(side.skipped) for name, side in (("canary", canary), ("stable", stable)) if side.skipped}
    skipped = [f"{count} series of {name} skipped" for name, count in odd.items()]
    first = [f"the first: {one_line((canary.skipped + stable.skipped)[0], 150)}"] if odd else []
    refused = f", {canary.refused:.0f} refused" if canary.refused else ""
    mine = f"{canary.requests:.0f} requests, {canary.failed:.0f} failed{refused}, p99 {p99(canary)}"
    return ", ".join(
        part
        for part in (f"{mine} (stable {stable.requests:.0f}, {p99(stable)})", shift, *skipped, *first)
        if part
    )
