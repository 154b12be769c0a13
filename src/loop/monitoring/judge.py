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


@dataclass(frozen=True)
class _Main:
    """The release state in main's latest commit, and when its canary began; None without a canary."""

    commit: str
    state: State
    began: Since | None


@dataclass
class _Canary:
    """The canary that the judge watches, with everything that it remembers of it."""

    key: str
    released: float
    unready: int = 0  # number of checks in a row in which it had traffic and was not ready
    overdue: int = 0  # number of checks in a row in which it was past its deadline
    condemned: Verdict | None = None  # the verdict to end it
    # by the title of an action's runs: the monotonic time at which the judge dispatched each run, by its id
    runs: dict[str, dict[int, float]] = field(default_factory=dict)


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
    _main: _Main | None = None
    _watched: _Canary | None = None
    _ended: str = ""  # how the latest canary ended
    _silent: float = 0.0  # Unix time until which GitHub's rate limit allows no requests

    def look(self) -> Look:
        """Judge the canary that main names now, and dispatch the resulting workflow; returns the result."""
        main = self._read()
        state, began, known = main.state, main.began, self._watched
        if state.canary is None or began is None:
            return self._over(state)
        key, step = state.canary.key, steps.step_of(state)
        if known is None or (known.key, known.released) != (key, began.canary):
            known = self._watched = _Canary(key, began.canary)
        found, numbers = self._judge(known, state, step, began)
        found = self._standing(known, self._in_time(known, found, step, began))
        dispatched, asked = self._ask(known, found, step)
        said = f"{found.what}: {', '.join(found.reasons)}"
        line = "; ".join(part for part in (f"{self.place}: {key} at {step}", numbers, said, asked) if part)
        return Look(one_line(line, LONGEST), found.what, dispatched)

    def _read(self) -> _Main:
        """Read main, unless it is still at the commit that was read last."""
        if self._main is None or self._main.commit != self.git.tip("main"):
            main = self.git.fetch("main")
            state = commit.read(self.git, main, self.place)
            began = since(self.git, main, self.place, state.canary.key) if state.canary else None
            self._main = _Main(main, state, began)
        return self._main

    def _over(self, state: State) -> Look:
        """Return the result if there is no canary, with the reason if the judge ended the latest one."""
        known, self._watched = self._watched, None  # the same release may come again
        if known and known.condemned and not (state.stable and state.stable.key == known.key):
            how = "rolled back" if state.why_barred(known.key) else "removed and may be proposed again"
            self._ended = f"; {known.key} was {how}: {', '.join(known.condemned.reasons)}"
        return Look(one_line(f"{self.place}: {steps.described(state)}{self._ended}", LONGEST), over=True)

    @staticmethod
    def _standing(known: _Canary, found: Verdict) -> Verdict:
        """Return the verdict that stands: "remove" is replaced only by "rollback", which is final."""
        before = known.condemned
        if before and (before.what, found.what) != ("remove", "rollback"):
            return before
        if found.what in {"rollback", "remove"}:
            known.condemned = found
        return found

    def _in_time(self, known: _Canary, found: Verdict, step: str, began: Since) -> Verdict:
        """Remove a canary that waits past its deadline at one of the steps before the hand-over."""
        hours = (time.time() - began.step) / 3600
        late = found.what == "wait" and step.startswith("canary-") and hours > self.rules.deadline_hours
        known.overdue = known.overdue + 1 if late else 0
        if known.overdue < PATIENCE:
            return found
        limit = f"no verdict within {self.rules.deadline_hours:g} h at {step}"
        return Verdict("remove", (f"{limit}: {', '.join(found.reasons)}",))

    def _judge(self, known: _Canary, state: State, step: str, began: Since) -> tuple[Verdict, str]:
        """Return the verdict on the canary, and the figures it is based on as text.

        A canary that stays unready while it has traffic is removed, unless stable is unready as well. Its
        release is not blocked, because a lost node or a failed image pull says nothing about the release.
        """
        track, name, wanted = self.canary, "canary", state.canary
        if step in {"handover", "return"}:
            track, name, wanted = self.stable, "stable", state.stable
        idle = track is self.stable or step == "canary-0"  # the canary has no traffic to judge
        problem, held = unready(track.url, known.key), None
        known.unready = known.unready + 1 if problem and not idle and not unready(self.stable.url) else 0
        if problem:
            held = Verdict("remove" if known.unready >= PATIENCE else "wait", (f"{name} {problem}",))
        try:
            if not problem and (unlike := track.metrics.unlike(known.key, (wanted and wanted.replicas) or 1)):
                held = Verdict("wait", (f"{name} {unlike}",))
            if idle or state.stable is None:
                return held or READY, ""
            stable = self.stable.metrics.sample(state.stable.key, began.canary)
            canary = self.canary.metrics.sample(known.key, began.step)
        except Unread as error:
            return held or Verdict("wait", (str(error),)), ""
        found = verdict(stable, canary, self.rules)
        return found if found.what == "rollback" else held or found, told(stable, canary)

    def _ask(self, known: _Canary, found: Verdict, step: str) -> tuple[bool, str]:
        """Dispatch promote.yml or rollback.yml unless a run is open; returns (dispatched, message)."""
        if self.github is None or found.what == "wait":
            return False, ""
        if self._silent > time.time():
            until = datetime.fromtimestamp(self._silent, UTC)
            return False, f"GitHub's rate limit allows no requests until {until:%H:%M:%S} UTC"
        try:
            return self._dispatch(replace(self.github(), patience=PROMPT), known, found, step)
        except GitHubError as error:
            self._silent = time.time() + error.wait
            if BAD_INPUT <= error.status < BROKEN:
                raise
            return False, str(error)  # GitHub has an outage; the next check tries again
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return False, f"GitHub's answer has an unexpected form: {error!r}"

    def _dispatch(self, github: GitHub, known: _Canary, found: Verdict, step: str) -> tuple[bool, str]:
        model, environment = public(self.place.model), self.place.environment
        inputs = {"model": model, "environment": environment, "key": known.key}
        reason = one_line("; ".join(found.reasons))
        if found.what == "promote":
            workflow, title = "promote.yml", f"Promote {model}: {environment} {known.key} from {step}"
            inputs |= {"from": step, "reason": reason}
        else:
            workflow, title = "rollback.yml", f"Roll back {model}: {environment} {known.key}"
            inputs |= {"why": reason, "bar": "yes" if found.what == "rollback" else "no"}
        sent = known.runs.setdefault(title, {})
        # earlier runs belong to another canary of this release
        oldest = datetime.fromtimestamp(known.released, UTC) - SKEW
        listed = github.trusted(workflow, oldest, "workflow_dispatch")
        # Ours have the id that GitHub returned or, after a restart, the title. In a fork that has changed
        # `run-name`, a restarted judge dispatches once more. That is harmless, because promote and rollback
        # change nothing unless main is still at the step they start from.
        ours = {run["id"]: run for run in listed if run["id"] in sent or run["display_title"] == title}
        for number, run in ours.items():
            if run["status"] != "completed":
                return False, f"run {number} is {run['status']}"
        unlisted = sent.keys() - ours.keys()
        if any(time.monotonic() - sent[number] < SHOWN for number in unlisted):
            return False, "a run was dispatched and is not listed yet"
        state = self._read().state
        if state.canary is None or (state.canary.key, steps.step_of(state)) != (known.key, step):
            return False, "main has changed meanwhile"
        if (times := len(ours) + len(unlisted)) >= ATTEMPTS:
            raise Rejected(f"{title!r} ran {times} times without effect", fix="read the runs' logs")
        started = github.dispatch(workflow, inputs)
        sent[started.id] = time.monotonic()
        return True, f"dispatched {workflow}: {started.url}"


READY = Verdict("promote", ("ready",))
BAD_INPUT = 400  # GitHub's statuses from 400 up to BROKEN need a person to change something


class Health(BaseModel):
    """The JSON body that a server's /health answers."""

    model_version: str


def unready(url: str, key: str = "") -> str | None:
    """Return why a track may not get traffic: it is not ready, or not at release `key`, if one is given."""
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
    same = not key or said.model_version == key
    return None if same else f"serves {one_line(said.model_version, 40)}, not {key}"


def told(stable: Sample, canary: Sample) -> str:
    """Summarise the answers of both tracks in one line."""

    def p99(sample: Sample) -> str:
        return f"{1000 * sample.latency.quantile(0.99):.0f} ms" if sample.latency.total else "unknown"

    refused = f", {canary.refused:.0f} refused" if canary.refused else ""
    mine = f"{canary.requests:.0f} requests, {canary.failed:.0f} failed{refused}, p99 {p99(canary)}"
    parts = [f"{mine} (stable {stable.requests:.0f}, {p99(stable)})"]
    if stable.scores.total and canary.scores.total:
        parts.append(f"PSI {stable.scores.psi(canary.scores):.2f}")
    parts += [f"skipped {why}" for why in sorted(canary.skipped | stable.skipped)]
    return ", ".join(parts)


def since(git: Git, at: str, place: Place, key: str) -> Since:
    """Return when canary `key` in the commit `at` was released, and when its current step began.

    Only main's first-parent line is read, so a merged branch counts from its merge.
    """
    path, times = file(place.environment, place.model), []
    for line in git.run("log", "--first-parent", "--format=%H %ct", at, "--", path).splitlines():
        changed, committed = line.split()
        try:
            before = recall(git.read(changed, path) or "", "canary", key)
        except LoopError:  # release.yaml was deleted or older, so this commit is before the canary
            break
        if before is None:
            break
        times.append(float(committed))
    return Since(canary=times[-1], step=times[0])


def watch(
    look: Callable[[], Look], every: float, *, forever: bool = False, alive: Path | None = None
) -> Look:
    """Call `look` every `every` seconds and print each new result, until a result says that no canary runs.

    Returns that last result. With `forever` the loop continues after such a result, and after an exception of
    `look`. After each call the file `alive` is touched, for the liveness probe.
    """
    said = ""
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
        time.sleep(every)
