"""The judge beside a canary: looks at both tracks, says promote, rollback or wait, and asks for it once."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from loop.core import params
from loop.core.errors import Rejected
from loop.core.git import Git
from loop.core.github import GitHub
from loop.core.names import public
from loop.delivery import commit, steps
from loop.delivery.commit import Place
from loop.delivery.state import State
from loop.monitoring.dispatch import OPEN
from loop.monitoring.sample import Reader, Sample, Unread
from loop.monitoring.since import Since, since
from loop.monitoring.verdict import Verdict, psi, verdict

PATIENCE = 3  # looks in a row at which a canary with traffic may be unready
SLOWEST = 3  # seconds for a probe's answer: more is unready
ATTEMPTS = 3  # runs that ended and changed nothing, before a person is needed
SHOWN = 60  # seconds within which GitHub lists a run that was dispatched


@dataclass(frozen=True)
class Track:
    """Where a track's endpoints answer, and where its metrics are read."""

    url: str
    metrics: Reader


@dataclass(frozen=True)
class Look:
    """What one look found; `over` when there is no canary (any more)."""

    line: str
    what: str = ""  # promote, rollback, wait
    dispatched: bool = False
    over: bool = False


@dataclass
class Judge:
    """Watches one place. What it keeps saves work: Git, GitHub and the metrics know it all again.

    Without `github` it only looks. Answers count since the step began in Git (stable's: since the canary was
    released).
    """

    git: Git
    place: Place
    rules: params.Canary
    stable: Track
    canary: Track
    github: Callable[[], GitHub] | None = None  # made anew for each use: its token may have changed
    _seen: tuple[str, State] | None = None
    _unready: int = 0
    _since: dict[tuple[str, str], Since] = field(default_factory=dict)
    _condemned: dict[str, Verdict] = field(default_factory=dict)
    _asked: dict[str, tuple[float, int]] = field(default_factory=dict)  # when, and the runs listed then

    def look(self) -> Look:
        """Judge once by what main says now, and dispatch what follows from it."""
        main, state = self._state()
        if state.canary is None:
            ended = [
                f"{key} was rolled back: {why}" for key in self._condemned if (why := state.why_barred(key))
            ]
            return Look("; ".join([f"{self.place}: {steps.described(state)}", *ended]), over=True)
        key, step = state.canary.key, steps.step_of(state)
        found, numbers = self._judge(main, state, key)
        if found.what == "rollback":
            self._condemned.setdefault(key, found)
        found = self._condemned.get(key, found)  # once condemned, a canary is not looked at more kindly
        dispatched, asked = self._ask(found, key, step)
        said = f"{found.what}: {', '.join(found.reasons)}"
        line = "; ".join(part for part in (f"{self.place}: {key} at {step}", numbers, said, asked) if part)
        return Look(line, found.what, dispatched)

    def _state(self) -> tuple[str, State]:
        """The commit that main is at, and the place's state there."""
        if self._seen is None or self._seen[0] != self.git.tip("main"):
            main = self.git.fetch("main")
            self._seen = main, commit.read(self.git, main, self.place)
        return self._seen

    def _judge(self, main: str, state: State, key: str) -> tuple[Verdict, str]:
        """The verdict, and the numbers it rests on."""
        step = steps.step_of(state)
        track, name = (self.stable, "stable") if step in {"handover", "return"} else (self.canary, "canary")
        problem = unready(track.url, key)
        if problem and track is self.canary and step != "canary-0":
            return self._missing(problem), ""
        self._unready = 0
        try:
            problem = problem or track.metrics.unlike(key)
            ready = Verdict("wait", (f"{name} {problem}",)) if problem else READY
            if track is self.stable or step == "canary-0" or state.stable is None:
                return ready, ""
            stable, canary = self._samples(main, state.stable.key, key, step)
        except Unread as error:
            return Verdict("wait", (str(error),)), ""
        found = verdict(stable, canary, self.rules)
        return ready if problem and found.what == "promote" else found, told(stable, canary)

    def _samples(self, main: str, old: str, key: str, step: str) -> tuple[Sample, Sample]:
        """What both tracks have answered: stable since the canary came, the canary since its step began."""
        if (key, step) not in self._since:
            self._since[key, step] = since(self.git, main, self.place)
        began = self._since[key, step]
        return self.stable.metrics.sample(old, began.canary), self.canary.metrics.sample(key, began.step)

    def _missing(self, problem: str) -> Verdict:
        """A canary with traffic that is unready: not for long, unless stable is too and the fault is ours."""
        if answers(self.stable.url):
            self._unready += 1
        return Verdict("rollback" if self._unready >= PATIENCE else "wait", (f"canary {problem}",))

    def _ask(self, found: Verdict, key: str, step: str) -> tuple[bool, str]:
        """Dispatch promote.yml or rollback.yml unless that runs already; whether it did, and what to tell."""
        if self.github is None or found.what == "wait":
            return False, ""
        model, environment = public(self.place.model), self.place.environment
        inputs = {"model": model, "environment": environment, "key": key}
        reason = steps.one_line("; ".join(found.reasons))
        if found.what == "promote":
            workflow, title = "promote.yml", f"Promote {model}: {environment} {key} from {step}"
            inputs |= {"from": step, "reason": reason}
        else:
            workflow, title = "rollback.yml", f"Roll back {model}: {environment} {key}"
            inputs["why"] = reason
        github = self.github()
        listed = github.runs(workflow, per_page="100")
        runs = [run for run in listed if run.get("display_title") == title]
        if against := self._against(runs, title, key, step):
            return False, against
        github.dispatch(workflow, inputs)
        self._asked[title] = (time.monotonic(), len(runs))
        return True, f"dispatched {workflow}"

    def _against(self, runs: list[dict[str, Any]], title: str, key: str, step: str) -> str | None:
        """Why not to dispatch now: a run by this title is open or just asked for, or main has moved on."""
        if waits := [run for run in runs if run["status"] in OPEN]:
            return f"run {waits[0]['id']} is {waits[0]['status']}"
        _, state = self._state()
        if state.canary is None or (state.canary.key, steps.step_of(state)) != (key, step):
            return "main has moved on"
        asked, known = self._asked.get(title, (-float("inf"), 0))
        if len(runs) <= known and time.monotonic() - asked < SHOWN:
            return "dispatched, not listed yet"
        if len(runs) >= ATTEMPTS:
            raise Rejected(f"{title!r} ran {len(runs)} times, and nothing changed", fix="see the runs' logs")
        return None


READY = Verdict("promote", ("ready",))


def unready(url: str, key: str) -> str | None:
    """What keeps a track from traffic: not ready, or not (yet) the release that Git names."""
    try:
        ready, health = (httpx.get(f"{url}{path}", timeout=SLOWEST) for path in ("/readyz", "/health"))
        served = health.json().get("model_version") if health.is_success else None
    except (httpx.HTTPError, ValueError) as error:
        return f"does not answer: {type(error).__name__}"
    if not ready.is_success or not health.is_success:
        return f"is not ready: /readyz {ready.status_code}, /health {health.status_code}"
    return None if served == key else f"serves {served}, not {key}"


def answers(url: str) -> bool:
    """Whether a track is ready, whatever it serves."""
    try:
        return httpx.get(f"{url}/readyz", timeout=SLOWEST).is_success
    except httpx.HTTPError:
        return False


def told(stable: Sample, canary: Sample) -> str:
    """Both samples in a few numbers."""

    def p99(sample: Sample) -> str:
        return f"{1000 * sample.latency.quantile(0.99):.0f} ms" if sample.latency.total else "unknown"

    shift = (
        f"PSI {psi(stable.scores, canary.scores):.2f}" if stable.scores.total and canary.scores.total else ""
    )
    mine = f"{canary.requests:.0f} requests, {canary.failed:.0f} failed, p99 {p99(canary)}"
    return ", ".join(
        part for part in (f"{mine} (stable {stable.requests:.0f}, {p99(stable)})", shift) if part
    )
