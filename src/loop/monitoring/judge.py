"""The judge beside a canary: looks at both tracks, says promote, rollback or wait, and asks for it once."""

import time
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
from loop.monitoring.sample import Reader, Sample, Scrape
from loop.monitoring.verdict import Verdict, psi, verdict

PATIENCE = 3  # looks in a row at which a canary with traffic may be unready
ATTEMPTS = 3  # runs that ended and changed nothing, before a person is needed
SHOWN = 60  # seconds within which GitHub lists a run that was dispatched


@dataclass(frozen=True)
class Track:
    """Where a track's endpoints answer, and where its metrics are read."""

    url: str
    metrics: Reader

    @classmethod
    def scraped(cls, url: str) -> "Track":
        """A track whose metrics are its own /metrics."""
        return cls(url.rstrip("/"), Scrape(url.rstrip("/")))


@dataclass(frozen=True)
class Look:
    """What one look found; `over` when there is no canary (any more)."""

    line: str
    what: str = ""  # promote, rollback, wait
    dispatched: bool = False
    over: bool = False


@dataclass
class Judge:
    """Watches one place. It keeps samples between looks, and nothing that Git and GitHub do not know better.

    Without `github` it only looks. With `since_start` a track's counters are judged as they are, else by
    what was added since the step was first seen (stable's: since the canary was).
    """

    git: Git
    place: Place
    rules: params.Canary
    stable: Track
    canary: Track
    github: GitHub | None = None
    since_start: bool = False
    _bases: dict[tuple[str, str], Sample] = field(default_factory=dict)
    _unready: int = 0
    _condemned: dict[str, Verdict] = field(default_factory=dict)
    _asked: dict[str, tuple[float, int]] = field(default_factory=dict)  # when, and the runs listed then

    def look(self) -> Look:
        """Judge once by what main says now, and dispatch what follows from it."""
        state = self._state()
        if state.canary is None:
            ended = [
                f"{key} was rolled back: {why}" for key in self._condemned if (why := state.why_barred(key))
            ]
            return Look("; ".join([f"{self.place}: {steps.described(state)}", *ended]), over=True)
        key, step = state.canary.key, steps.step_of(state)
        found, numbers = self._judge(state, key, step)
        if found.what == "rollback":
            self._condemned.setdefault(key, found)
        found = self._condemned.get(key, found)  # once condemned, a canary is not looked at more kindly
        dispatched, asked = self._ask(found, key, step)
        said = f"{found.what}: {', '.join(found.reasons)}"
        line = "; ".join(part for part in (f"{self.place}: {key} at {step}", numbers, said, asked) if part)
        return Look(line, found.what, dispatched)

    def _state(self) -> State:
        return commit.read(self.git, self.git.fetch("main"), self.place)

    def _judge(self, state: State, key: str, step: str) -> tuple[Verdict, str]:
        """The verdict, and the numbers it rests on."""
        if step in {"handover", "return"}:
            problem = unready(self.stable.url, key)
            return (Verdict("wait", (f"stable {problem}",)) if problem else READY), ""
        if problem := unready(self.canary.url, key):
            return self._missing(problem, weighted=step != "canary-0"), ""
        self._unready = 0
        if step == "canary-0" or state.stable is None:
            return READY, ""
        try:
            stable = self._since("stable", key, self.stable.metrics.sample(state.stable.key))
            canary = self._since(step, key, self.canary.metrics.sample(key))
        except httpx.HTTPError as error:
            return Verdict("wait", (f"metrics can't be read: {error}",)), ""
        return verdict(stable, canary, self.rules), told(stable, canary)

    def _missing(self, problem: str, *, weighted: bool) -> Verdict:
        """An unready canary: waited for while it has no traffic; with traffic, not for long."""
        self._unready += 1
        given_up = weighted and self._unready >= PATIENCE
        return Verdict("rollback" if given_up else "wait", (f"canary {problem}",))

    def _since(self, name: str, key: str, sample: Sample) -> Sample:
        """What came since the first look under this name; a restarted server's counters begin at nothing."""
        if self.since_start:
            return sample
        base = self._bases.setdefault((key, name), sample)
        if sample.requests < base.requests:
            base = self._bases[key, name] = Sample()
        return sample.since(base)

    def _ask(self, found: Verdict, key: str, step: str) -> tuple[bool, str]:
        """Dispatch promote.yml or rollback.yml unless that runs already; whether it did, and what to tell."""
        if self.github is None or found.what == "wait":
            return False, ""
        model, environment = public(self.place.model), self.place.environment
        inputs = {"model": model, "environment": environment, "key": key}
        if found.what == "promote":
            workflow, title = "promote.yml", f"Promote {model}: {environment} {key} from {step}"
            inputs["from"] = step
        else:
            workflow, title = "rollback.yml", f"Roll back {model}: {environment} {key}"
            inputs["why"] = steps.one_line("; ".join(found.reasons))
        listed = self.github.runs(workflow, per_page="100")
        runs = [run for run in listed if run.get("display_title") == title]
        if against := self._against(runs, title, key, step):
            return False, against
        self.github.dispatch(workflow, inputs)
        self._asked[title] = (time.monotonic(), len(runs))
        return True, f"dispatched {workflow}"

    def _against(self, runs: list[dict[str, Any]], title: str, key: str, step: str) -> str | None:
        """Why not to dispatch now: a run by this title is open or just asked for, or main has moved on."""
        if waits := [run for run in runs if run["status"] in OPEN]:
            return f"run {waits[0]['id']} is {waits[0]['status']}"
        state = self._state()
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
        ready, health = (httpx.get(f"{url}{path}", timeout=5) for path in ("/readyz", "/health"))
        served = health.json().get("model_version") if health.is_success else None
    except (httpx.HTTPError, ValueError) as error:
        return f"does not answer: {type(error).__name__}"
    if not ready.is_success or not health.is_success:
        return f"is not ready: /readyz {ready.status_code}, /health {health.status_code}"
    return None if served == key else f"serves {served}, not {key}"


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
