"""The judge dispatches the right workflow at each step of a canary, and withstands faults and attacks."""

import gzip
import json
import socketserver
import threading
import time
import tracemalloc
from contextlib import suppress
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner
from shop import FakeGitHub, FakeTrack, Production

from loop.cli.monitoring import judge as command
from loop.core import params, release_state
from loop.core.errors import Rejected
from loop.core.git import Change, Git
from loop.core.github import GitHub, GitHubError
from loop.delivery import commit
from loop.delivery.canary import promote, rollback
from loop.delivery.commit import Place
from loop.monitoring.judge import Judge, Look, Track, since, unready
from loop.monitoring.judge import watch as forever
from loop.monitoring.prometheus import Prometheus
from loop.monitoring.sample import Histogram, Sample, Scrape, Unread

OLD, NEW = "0" * 12, "1" * 12
PLACE = Place("shop", "production")
RULES = params.Canary(min_requests=50)
PAGE = "https://github.test/team/shop/actions/runs"

Tracks = dict[str, FakeTrack]


def track(key: str, weight: int) -> release_state.Track:
    return release_state.Track(
        key=key,
        image=f"shop@sha256:{key[0] * 64}",
        weight=weight,
        model_md5=key[0] * 32,
        data_md5=key[0] * 32,
        commit=key[0] * 40,
        mlflow="shop/1",
        bento=f"shop:{key}",
    )


@pytest.fixture
def canary(production: Production, tracks: Tracks) -> Git:
    """Return a clone whose main has a canary at weight 0; both releases are served."""
    git = Git(production.root)
    begun = release_state.State(stable=track(OLD, 100), canary=track(NEW, 0))
    git.land("main", lambda _: Change(release_state.files(begun, "production", "shop"), "Begin a canary"))
    tracks["stable"].key, tracks["canary"].key = OLD, NEW
    return git


@pytest.fixture
def watch(canary: Git, tracks: Tracks, github: FakeGitHub) -> Judge:
    served = [Track(url, Scrape(url)) for url in (tracks["stable"].url, tracks["canary"].url)]
    return Judge(canary, PLACE, RULES, *served, github=GitHub.of_environment)


def serve(tracks: Tracks, canary: int, *, failed: int = 0, high: int = 0) -> None:
    """Let stable answer 100 more requests, and the canary `canary` more, of which some may fail."""
    tracks["stable"].answers += 100
    tracks["canary"].answers += canary
    tracks["canary"].failed += failed
    tracks["canary"].high += high


def run_workflow(git: Git, github: FakeGitHub) -> str:
    """Do what the workflow of the last dispatch does, and return the step that it leaves, or `rollback`."""
    workflow, inputs = github.dispatched[-1]
    if workflow == "promote.yml":
        promote(git, PLACE, inputs["key"], inputs["from"])
    else:
        rollback(git, PLACE, inputs["why"], inputs["key"], bar=inputs["bar"] == "yes")
    github.runs[workflow][0]["status"] = "completed"
    return inputs.get("from", "rollback")


def test_whole_canary(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """A healthy canary is promoted step by step to the end, with one dispatch for each step."""
    taken = []
    while not (look := watch.look()).over:
        if look.dispatched:
            step = run_workflow(canary, github)
            taken.append(step)
            if step == "canary-100":
                tracks["stable"].key = NEW  # Argo CD has synced the hand-over
        else:
            assert look.what == "wait"
            serve(tracks, 60)
    assert taken == ["canary-0", "canary-10", "canary-50", "canary-100", "handover", "return"]
    assert f"stable serves {NEW}" in look.line


def test_errors_roll_back(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """A canary with errors is rolled back with its numbers as the reason, and the judge stops."""
    watch.look()
    run_workflow(canary, github)
    assert watch.look().what == "wait"
    serve(tracks, 40, failed=20)
    assert watch.look().dispatched
    workflow, inputs = github.dispatched[-1]
    assert workflow == "rollback.yml"
    assert (inputs["why"], inputs["bar"]) == ("20 of 60 requests failed (33.3% > 1.0%)", "yes")
    serve(tracks, 10_000)
    assert watch.look().what == "rollback"  # later answers do not change that
    assert len(github.dispatched) == 2
    run_workflow(canary, github)
    last = watch.look()
    assert last.over
    assert "was rolled back: 20 of 60" in last.line


def test_not_ready(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """Only a ready canary gets traffic; one that becomes unready is removed, and may be proposed again."""
    tracks["canary"].ready = False
    assert [watch.look().what for _ in range(5)] == ["wait"] * 5
    tracks["canary"].ready, tracks["canary"].key = True, OLD
    assert f"serves {OLD}, not {NEW}" in watch.look().line
    assert github.dispatched == []
    tracks["canary"].key = NEW
    watch.look()
    run_workflow(canary, github)
    tracks["canary"].ready = False
    assert [watch.look().what for _ in range(3)] == ["wait", "wait", "remove"]
    run_workflow(canary, github)
    assert "was removed and may be proposed again: canary is not ready: /readyz 503" in watch.look().line
    again = release_state.State(stable=track(OLD, 100), canary=track(NEW, 0))
    assert commit.read(canary, canary.fetch(), PLACE) == again.model_copy(update={"canary": None})
    canary.land("main", lambda _: Change(release_state.files(again, "production", "shop"), "Try again"))
    assert watch.look().what == "wait"
    tracks["canary"].ready = True
    assert watch.look().dispatched


def test_not_ready_and_bad(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """A canary with too many failures is rolled back for them, even if it is unready or being removed."""
    watch.look()
    run_workflow(canary, github)
    watch.look()
    tracks["canary"].ready = False
    assert [watch.look().what for _ in range(3)] == ["wait", "wait", "remove"]
    github.runs["rollback.yml"][0]["status"] = "completed"  # without any effect
    serve(tracks, 40, failed=20)
    assert watch.look().what == "rollback"
    assert github.dispatched[-1][1]["bar"] == "yes"


@pytest.mark.parametrize("weight", [0, 10])
def test_without_evidence_it_ends(  # noqa: PLR0917 — fixtures
    watch: Judge,
    canary: Git,
    tracks: Tracks,
    github: FakeGitHub,
    monkeypatch: pytest.MonkeyPatch,
    weight: int,
) -> None:
    """A canary that is unready or has too few requests is removed at its deadline, and not blocked."""
    watch.look()
    if weight:
        run_workflow(canary, github)
        serve(tracks, 30)
    else:
        github.runs.clear()
        tracks["canary"].ready = False
    begun = time.time()
    monkeypatch.setattr("loop.monitoring.judge.time.time", lambda: begun + 23.9 * 3600)
    assert {watch.look().what for _ in range(5)} == {"wait"}
    monkeypatch.setattr("loop.monitoring.judge.time.time", lambda: begun + 24.1 * 3600)
    assert [watch.look().what for _ in range(3)] == ["wait", "wait", "remove"]
    assert github.dispatched[-1][1]["why"].startswith(f"no verdict within 24 h at canary-{weight}: ")
    run_workflow(canary, github)
    assert commit.read(canary, canary.fetch(), PLACE).barred == ()


def test_a_person_may_promote_what_the_judge_would_remove(
    watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub
) -> None:
    """If a person promotes a canary to the end against the judge, the judge does not say it was removed."""
    watch.look()
    run_workflow(canary, github)
    watch.look()
    serve(tracks, 40, failed=20)
    assert watch.look().what == "rollback"
    for step in ("canary-10", "canary-50", "canary-100", "handover", "return"):
        promote(canary, PLACE, NEW, step)
    assert watch.look().line == f"shop/production: no canary; stable serves {NEW}"


def test_network_away(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """If neither track answers, the canary is not at fault, so the judge waits."""
    watch.look()
    run_workflow(canary, github)
    tracks["canary"].ready = tracks["stable"].ready = False
    assert [watch.look().what for _ in range(5)] == ["wait"] * 5
    tracks["stable"].ready = True
    assert [watch.look().what for _ in range(3)] == ["wait", "wait", "remove"]


class Pods:
    """A reader of many pods, like Prometheus, whose answers a test sets."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self.pods = 0
        self.asked: list[float] = []

    def sample(self, version: str, since: float) -> Sample:
        self.asked.append(since)
        if self.problem == "away":
            raise Unread("Prometheus is away")
        return Sample(100, 0, Histogram({0.01: 100.0}), Histogram({1.0: 100.0}))

    def unlike(self, version: str, pods: int) -> str | None:
        self.pods = pods
        if self.problem == "away":
            raise Unread("Prometheus is away")
        return self.problem


@pytest.fixture
def pods(watch: Judge, tracks: Tracks) -> dict[str, Pods]:
    """Let the judge read both tracks through `Pods`."""
    read = {"stable": Pods(), "canary": Pods()}
    watch.stable, watch.canary = (Track(tracks[name].url, read[name]) for name in ("stable", "canary"))
    return read


def test_every_pod(
    watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub, pods: dict[str, Pods]
) -> None:
    """No step is taken while a pod that gets traffic serves another release, is down, or is unknown."""
    for step in ("canary-0", "canary-10", "canary-50", "canary-100", "handover", "return"):
        if step == "handover":
            tracks["stable"].key = NEW
        gate = pods["stable" if step in {"handover", "return"} else "canary"]
        for problem in (f"still has a ({OLD})", "away"):
            gate.problem = problem
            look = watch.look()
            assert (look.what, look.dispatched) == ("wait", False)
            assert problem in look.line
        gate.problem = None
        assert watch.look().dispatched
        assert gate.pods == {"canary-0": 1, "canary-10": 5}.get(
            step, 10
        )  # an older version's state has no number
        assert run_workflow(canary, github) == step
    assert watch.look().over


def test_restarted_judge(
    watch: Judge,
    canary: Git,
    github: FakeGitHub,
    pods: dict[str, Pods],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The judge counts from the times of commits in Git, so a restarted judge counts from the same times."""
    released = float(canary.run("log", "-1", "--format=%ct", canary.fetch()))
    for step in range(2):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"{2_000_000_000 + step} +0000")
        watch.look()
        run_workflow(canary, github)
    again = Judge(canary, PLACE, RULES, watch.stable, watch.canary)
    for judge in (watch, again):
        judge.look()
        assert (pods["stable"].asked[-1], pods["canary"].asked[-1]) == (released, 2_000_000_001.0)


def test_a_state_of_an_older_format_began_no_canary(canary: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary counts from its own commit, even if main's history has states of an older format."""
    old = {
        f"{release_state.folder('production', 'shop')}/release.yaml": "kind: Release\nspec: {tracks: []}\n"
    }
    canary.land("main", lambda _: Change(old, "An older format"))
    begun = release_state.State(stable=track(OLD, 100), canary=track(NEW, 0))
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2000000000 +0000")
    made = canary.land(
        "main", lambda _: Change(release_state.files(begun, "production", "shop"), "Begin again")
    )
    assert since(canary, made, PLACE, NEW).canary == 2_000_000_000


def test_forever(watch: Judge, canary: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge survives an unreachable origin and the end of a canary, and reports each only once."""
    looks, lines = iter(range(100)), []
    origin = canary.root.parent / "origin.git"

    def look() -> Look:
        match next(looks):
            case 1:
                origin.rename(tmp_path / "away")
            case 3:
                (tmp_path / "away").rename(origin)
                canary.land("main", lambda _: Change(release_state.files(ended, "production", "shop"), "End"))
            case 6:
                raise KeyboardInterrupt
        return watch.look()

    ended = release_state.State(stable=track(OLD, 100))
    monkeypatch.setattr("click.echo", lines.append)
    with pytest.raises(KeyboardInterrupt):
        forever(look, 0.0, forever=True, alive=tmp_path / "alive")
    assert (tmp_path / "alive").exists()
    assert [line.partition(":")[0] for line in lines] == ["shop/production", "GitError", "shop/production"]
    assert lines[-1] == f"shop/production: no canary; stable serves {OLD}"


HOSTILE = {
    "an escape and a line": {"model_version": "\x1b[2J\nshop/production: promoted\x9b2J\u2028\u202e" * 99},
    "no text": {"model_version": [1, {"2": None}]},
    "no version": {"status": "ok"},
    "a list": ["\x1b[2J"],
    "nothing": None,
    "deep": "[" * 100_000,
    "endless": "x" * 1_000_000,
}


@pytest.mark.parametrize("answer", list(product(HOSTILE.values(), (0, 10))))
def test_a_canary_forges_no_line(
    watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub, answer: tuple[object, int]
) -> None:
    """Whatever /health answers, the judge's line, the reason and the commit are one printable line each."""
    health, weight = answer
    if weight:
        watch.look()
        run_workflow(canary, github)
    tracks["canary"].health = health if isinstance(health, str) else json.dumps(health)
    looks = [watch.look() for _ in range(3)]
    assert looks[-1].what == ("remove" if weight else "wait")
    said = [look.line for look in looks]
    if weight:
        said.append(github.dispatched[-1][1]["why"])
        run_workflow(canary, github)
        said += [
            watch.look().line,
            canary.run("log", "-1", "--format=%(trailers:key=Why,valueonly)", "origin/main"),
        ]
    for line in said:
        assert line.strip().isprintable()
        assert len(line) <= 1000


def test_a_canary_cannot_hold_the_judge(
    watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that arrives byte by byte times out, so each check ends, and the canary is removed."""
    watch.look()
    run_workflow(canary, github)
    tracks["canary"].drip = 0.05
    monkeypatch.setattr("loop.monitoring.judge.SLOWEST", 0.5)
    monkeypatch.setattr("loop.monitoring.sample.TIMEOUT", 0.5)
    assert "remove" in {watch.look().what for _ in range(5)}


BOMB = gzip.compress(bytes(30_000_000))
RAW = {
    "no HTTP": b"\x00\xff" * 100,
    "nothing": b"",
    "a head without end": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    "informed for ever": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 10_000,
    "a status that is none": b"HTTP/1.1 999999 x\r\n\r\n",
    "a place that is none": b"HTTP/1.1 302 Found\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n",
    "a place of no bytes": b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a gzip bomb": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB)
    + BOMB,
    "a strange encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: zz\r\nContent-Length: 2\r\n\r\n{}",
    "cookies": b"HTTP/1.1 200 OK\r\n" + b"Set-Cookie: \xff=;;;expires=" + b"1" * 9000 + b"\r\n\r\n[]",
}


@pytest.mark.parametrize("answer", RAW.values(), ids=RAW)
def test_whatever_bytes_come_are_unready(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invalid bytes from a pod, its metrics or Prometheus never crash the judge, nor cost much memory."""
    monkeypatch.setattr("loop.monitoring.judge.SLOWEST", 1.0)

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with suppress(OSError):
                self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        tracemalloc.start()
        assert unready(url, NEW)
        for read in (Scrape(url), Prometheus(url, "shop-production", "canary")):
            with pytest.raises(Unread):
                read.sample(NEW, 0)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        server.shutdown()
    assert most < 16_000_000


@pytest.mark.parametrize("error", [KeyError("le"), RecursionError(), TypeError("x\n\x1b[2J" * 999)])
def test_forever_outlives_whatever_a_look_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each error of a check is printed on one line, and the next check follows; only Ctrl-C ends it."""
    looks, lines = iter([error, Look("fine"), KeyboardInterrupt()]), []

    def look() -> Look:
        if isinstance(found := next(looks), BaseException):
            raise found
        return found

    monkeypatch.setattr("click.echo", lines.append)
    with pytest.raises(KeyboardInterrupt):
        forever(look, 0.0, forever=True)
    assert lines[0].startswith(type(error).__name__)
    assert lines[0].isprintable()
    assert lines[1] == "fine"


def test_asked_once(watch: Judge, github: FakeGitHub) -> None:
    """While a run is open, nothing is dispatched; after three runs without effect, the judge gives up."""
    assert watch.look().dispatched
    assert "run 1 is queued" in watch.look().line
    for attempt in (2, 3):
        github.runs["promote.yml"][0]["status"] = "completed"
        assert watch.look().dispatched
        assert len(github.dispatched) == attempt
    github.runs["promote.yml"][0]["status"] = "completed"
    with pytest.raises(Rejected, match="ran 3 times without effect"):
        watch.look()


TITLE = f"Promote shop: production {NEW} from canary-0"


@pytest.mark.parametrize("forged", [("in_progress", 1), ("completed", 120)])
def test_a_stranger_cannot_stop_it(
    watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub, forged: tuple[str, int]
) -> None:
    """Runs of a fork's pull request count neither as open nor as without effect, whatever their title.

    An earlier version believed both: "run 1 is in_progress"; "ran 3 times without effect".
    """
    status, count = forged
    for _ in range(count):
        github.forge("promote.yml", TITLE, status=status)
        github.forge("rollback.yml", f"Roll back shop: production {NEW}", status=status)
    ours = 2 * count + 1
    assert f"dispatched promote.yml: {PAGE}/{ours}" in watch.look().line
    assert f"run {ours} is queued" in watch.look().line
    run_workflow(canary, github)
    watch.look()
    serve(tracks, 40, failed=20)
    assert "dispatched rollback.yml" in watch.look().line


def test_a_restarted_judge_finds_the_run(watch: Judge, github: FakeGitHub) -> None:
    """A restarted judge finds its run by the title among main's runs, even below many forged ones."""
    watch.look()
    for _ in range(120):
        github.forge("promote.yml", "anything")
    again = Judge(watch.git, PLACE, RULES, watch.stable, watch.canary, github=GitHub.of_environment)
    assert "run 1 is queued" in again.look().line
    github.run(1)["status"] = "completed"
    assert again.look().dispatched
    assert "run 122 is queued" in again.look().line


def test_a_run_is_followed_by_its_id(watch: Judge, github: FakeGitHub) -> None:
    """A run is followed by its id, so a fork may change `run-name`."""
    github.titles["promote.yml"] = "Ship it: {model}"
    for attempt in (1, 2, 3):
        assert watch.look().dispatched
        assert f"run {attempt} is queued" in watch.look().line
        github.run(attempt)["status"] = "completed"
    with pytest.raises(Rejected, match="ran 3 times"):
        watch.look()
    again = Judge(watch.git, PLACE, RULES, watch.stable, watch.canary, github=GitHub.of_environment)
    assert again.look().dispatched  # not needed, but changes nothing on main


@pytest.mark.parametrize("answer", [b"<html>log in</html>", b"[7]", b'{"id": 7}', b"[" * 100_000])
@pytest.mark.parametrize("sound", [0, 1])
def test_an_answer_that_is_not_githubs_ends_no_watch(
    watch: Judge, github: FakeGitHub, answer: bytes, sound: int
) -> None:
    """If a proxy answers with its own page and status 200, the judge asks again at the next check."""
    github.nonsense = [*[b'{"workflow_runs": []}'] * sound, answer]
    look = watch.look()
    assert (look.what, look.dispatched) == ("promote", False)
    assert watch.look().dispatched


def test_it_calls_nobody_while_github_asks_for_silence(
    watch: Judge, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While GitHub's rate limit lasts, the judge goes on checking but makes no call to GitHub."""
    clock = [1_000.0]
    monkeypatch.setattr("loop.monitoring.judge.time.time", lambda: clock[0])
    github.refusals = [(403, {"retry-after": "3600"})]
    with pytest.raises(GitHubError, match="403 refused"):
        watch.look()
    assert "GitHub's rate limit allows no requests until 01:16:40 UTC" in watch.look().line
    assert len(github.calls) == 1
    clock[0] += 3_601
    assert watch.look().dispatched


def test_restarted_canary(watch: Judge, canary: Git, tracks: Tracks, github: FakeGitHub) -> None:
    """After a restart has reset the counters to zero, the judge counts on from there."""
    tracks["canary"].answers = 1_000
    watch.look()
    run_workflow(canary, github)
    watch.look()
    tracks["canary"].answers = 30
    serve(tracks, 25)
    look = watch.look()
    assert "55 requests, 0 failed" in look.line
    assert look.what == "promote"


def test_once(canary: Git, tracks: Tracks, github: FakeGitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--once` checks once, and dispatches only with `--dispatch`."""
    monkeypatch.chdir(canary.root)
    urls = ["--stable", tracks["stable"].url, "--canary", tracks["canary"].url]
    only_looked = CliRunner().invoke(command, ["shop", *urls, "--once"])
    assert only_looked.output == f"shop/production: {NEW} at canary-0; promote: ready\n"
    assert github.dispatched == []
    CliRunner().invoke(command, ["shop", *urls, "--once", "--dispatch"])
    expected = {"model": "shop", "environment": "production", "key": NEW, "from": "canary-0"}
    expected["reason"] = "ready"
    assert github.dispatched == [("promote.yml", expected)]
