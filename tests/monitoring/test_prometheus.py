"""Prometheus gives exact samples while pods restart, come and go; missing data counts as unknown."""

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop import FakeTrack

from loop.monitoring.prometheus import Prometheus
from loop.monitoring.sample import FAILED, Counted, Unread
from loop.packaging.process import free_port

OLD, NEW = "0" * 12, "1" * 12
POD = {"__name__": f"{FAILED}_total", "version": NEW, "pod": "a", "reason": "model"}
RECORDED = Path(__file__).parent / "prometheus.json"  # a real server's answers in the slow test below
SINCE = 1_800_000_000.0


def gained(*scrapes: list[tuple[float, float]]) -> float:
    counted = Counted(NEW)
    for each in scrapes:
        counted.add(POD, each)
    (found,) = counted.counts.values()
    return found.gained


@pytest.mark.parametrize(
    ("scrapes", "gain"),
    [
        ([(-9, 40), (-1, 45), (1, 47), (2, 60)], 15),  # the count by then is the base
        ([(1, 5), (2, 9)], 9),  # a pod that came later started at zero
        ([(-1, 40), (1, 50), (2, 3), (3, 4)], 14),  # a restarted container starts at zero
        ([(-2, 40), (-1, 3), (1, 4)], 1),  # it was restarted before
        ([(-2, 40), (-1, 41)], 0),
    ],
)
def test_gains(scrapes: list[tuple[float, float]], gain: float) -> None:
    """The scrapes of a counter give its gain since a time, even if its pod restarts."""
    assert gained(scrapes) == gain


@given(
    values=st.lists(st.integers(0, 99).map(float), min_size=1, max_size=30),
    looks=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9))),
)
def test_looks_do_not_matter(values: list[float], looks: list[tuple[int, int]]) -> None:
    """Many overlapping reads give the same gain as the single read of a restarted judge."""
    scrapes = [(float(at), value) for at, value in enumerate(values, start=-5)]
    parts, read = [], 0
    for end, overlap in [*sorted(looks), (len(scrapes), 0)]:
        parts.append(scrapes[max(0, min(read, end) - overlap) : end])
        read = max(read, end)
    assert gained(*parts) == gained(scrapes)


@pytest.fixture
def answered() -> Iterator[tuple[str, dict[str, Any]]]:
    """Start a Prometheus with an answer for each beginning of a query; yield its URL and the answers."""
    answers: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["query"][0]
            found = next((answers[start] for start in answers if asked.startswith(start)), [])
            if re.search(r"\[(0|-\d+)s\]$", asked):
                found = {"status": "error", "error": "duration must be greater than 0"}
            said = {"status": "success", "data": {"result": found}} if isinstance(found, list) else found
            self.send_response(422 if isinstance(found, dict) else 200)
            self.end_headers()
            self.wfile.write(said if isinstance(said, bytes) else json.dumps(said).encode())

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", answers
        server.shutdown()


def recorded(now: float) -> dict[str, Any]:
    """Return the recording as if it were made now, with the time from which it counts."""
    record = json.loads(RECORDED.read_text())
    later = now - record["now"]
    for series in record["{__name__"]:
        series["values"] = [[at + later, value] for at, value in series["values"]]
    return {**record, "since": record["since"] + later}


def test_recorded(answered: tuple[str, dict[str, Any]]) -> None:
    """The recorded answers of a real Prometheus are read: three pods, one restarted, one gone, one new."""
    url, answers = answered
    answers.update(record := recorded(time.time()))
    reader = Prometheus(url, "shop-production", "canary")
    found = reader.sample(NEW, record["since"])
    assert (found.requests, found.failed, found.latency.total, found.scores.counts[1.0]) == (70, 2, 68, 4)
    assert reader.unlike(NEW, 2) is None
    assert reader.unlike(NEW, 5) == "has 2 of the 5 pods that its traffic needs"
    assert reader.unlike(OLD) == f"still has b ({NEW}), c ({NEW})"


def test_unknown(answered: tuple[str, dict[str, Any]]) -> None:
    """No series, only old series, an error or no Prometheus means unknown, not a sample of nothing."""
    url, answers = answered
    reader = Prometheus(url, "shop-production", "canary")
    with pytest.raises(Unread, match=f"no recent data of canary {NEW} in shop-production"):
        reader.sample(NEW, time.time() + 3600)  # the clock of whoever committed the step is ahead
    assert reader.unlike(NEW) == "has no pod that Prometheus scrapes"
    answers.update(record := recorded(time.time()))
    reader.sample(NEW, record["since"])
    answers.update(recorded(time.time() - 600))
    with pytest.raises(Unread, match="no recent data of"):
        reader.sample(NEW, record["since"])
    answers["{__name__"] = {"status": "error", "error": "query timed out"}
    with pytest.raises(Unread, match="query timed out"):
        reader.sample(NEW, SINCE)
    with pytest.raises(Unread, match="ConnectError"):
        Prometheus(f"http://127.0.0.1:{free_port()}", "n", "canary").unlike(NEW)


def test_an_answer_with_warnings_is_unknown(answered: tuple[str, dict[str, Any]]) -> None:
    """Thanos and remote stores answer with warnings if they lack a part; what is missing is unknown."""
    url, answers = answered
    record = recorded(time.time())
    warned = {"status": "success", "data": {"result": record["{__name__"]}, "warnings": ["no store\x1b[2J"]}
    answers["{__name__"] = json.dumps(warned).encode()
    with pytest.raises(Unread, match=r"may lack series: no store\S*\[2J$"):
        Prometheus(url, "shop-production", "canary").sample(NEW, record["since"])


@pytest.mark.parametrize(
    "said",
    [
        b"no JSON",
        b"[" * 100_000,
        b"[]",
        b"null",
        b'{"status": "success"}',
        b'{"status": "error", "error": ["\\u001b[2J"]}',
        b'{"status": "success", "data": {"result": {"metric": {}}}}',
        b'{"status": "success", "data": {"result": [7, "1"]}}',
        b'{"status": "success", "data": {"result": [{"value": [0, "1"]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {"pod": 7}, "value": [0, "1"]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {"pod": "a"}, "value": [0]}]}}',
        b'{"status": "success", "data": {"result": [{"metric": {"pod": "a"}, "values": [{}]}]}}',
    ],
)
def test_an_answer_of_another_shape_is_unread(answered: tuple[str, dict[str, Any]], said: bytes) -> None:
    """An invalid answer raises Unread with a message of one line, and gives neither sample nor verdict."""
    url, answers = answered
    answers["{__name__"] = answers["up"] = said
    reader = Prometheus(url, "shop-production", "canary")
    for ask in (lambda: reader.sample(NEW, SINCE), lambda: reader.unlike(NEW)):
        with pytest.raises(Unread, match=r"^Prometheus[ -~]{1,500}$"):
            ask()


def test_series_that_say_nothing_readable(answered: tuple[str, dict[str, Any]]) -> None:
    """Invalid counts are skipped and named; a pod that reports two releases, or none, does not match."""
    url, answers = answered
    answers.update(record := recorded(time.time()))
    plain = Prometheus(url, "shop-production", "canary").sample(NEW, record["since"])
    bucket = {"__name__": "model_prediction_score_bucket", "version": NEW, "pod": "x"}
    now = time.time()
    answers["{__name__"] += [
        {"metric": {**bucket, "le": "abc"}, "values": [[now, "5"]]},
        {"metric": {**bucket, "le": "1.0"}, "values": [[now, text] for text in ("NaN", "-1", "x", "1e999")]},
        {"metric": bucket, "values": []},
    ]
    found = Prometheus(url, "shop-production", "canary").sample(NEW, record["since"])
    assert (found.requests, found.scores) == (plain.requests, plain.scores)
    assert found.skipped == {
        "model_prediction_score_bucket: a label is missing or not valid",
        "model_prediction_score_bucket: a value is not a valid count",
    }
    count = answers["model_prediction_latency_seconds_count"]
    count += [{"metric": {"pod": "b", "version": "\x1b[2J\nready"}, "value": [now, "1"]}]
    count += [{"metric": {"pod": "c"}, "value": [now, "1"]}]
    answers["up"] += [{"metric": {}, "value": [now, "1"]}]
    assert Prometheus(url, "shop-production", "canary").unlike(NEW) == (
        "has a pod without a name, which cannot be scraped"
    )
    answers["up"].pop()
    unlike = Prometheus(url, "shop-production", "canary").unlike(NEW)
    assert unlike == f"still has b (?[2J ready, {NEW}), c ({NEW}, no version)"


def test_down(answered: tuple[str, dict[str, Any]]) -> None:
    """A pod that cannot be scraped, or reports no release, does not count as the release's pod."""
    url, answers = answered
    answers.update(recorded(time.time()))
    answers["up"][0]["value"][1] = "0"
    answers["up"].append({"metric": {"pod": "d"}, "value": [0, "1"]})
    assert Prometheus(url, "shop-production", "canary").unlike(NEW) == "has b, d, which cannot be scraped"


class Cluster:
    """A real Prometheus, and pods that it scrapes as with the Prometheus operator."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pods, self.url = folder, {}, f"http://127.0.0.1:{free_port()}"
        discovery = f"file_sd_configs: [{{files: ['{folder}/pods.json']}}]"
        job = f"job_name: serving, scrape_interval: 300ms, scrape_timeout: 300ms, {discovery}"
        (folder / "prometheus.yml").write_text(f"scrape_configs: [{{{job}}}]")
        self.place()

    def place(self, **pods: FakeTrack) -> None:
        """Let exactly these pods exist."""
        self.pods = pods
        labels = {"namespace": "shop-production", "track": "canary"}
        targets = [
            {"targets": [pod.url.removeprefix("http://")], "labels": {**labels, "pod": name}}
            for name, pod in pods.items()
        ]
        aside = self.folder / "aside.json"
        aside.write_text(json.dumps(targets))
        aside.rename(self.folder / "pods.json")

    def start(self) -> "subprocess.Popen[bytes]":
        args = [f"--storage.tsdb.path={self.folder}/data", f"--config.file={self.folder}/prometheus.yml"]
        listen = f"--web.listen-address={self.url.removeprefix('http://')}"
        return subprocess.Popen(["prometheus", *args, listen], stderr=(self.folder / "log").open("ab"))


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition, even while nothing can be read yet."""
    ends, said = time.monotonic() + seconds, ""
    while time.monotonic() < ends:
        try:
            if condition():
                return
        except Unread as error:
            said = str(error)
        time.sleep(0.1)
    raise TimeoutError(said)


def earliest(reader: Prometheus) -> float:
    """Return the scrape time of the series that was scraped longest ago."""
    return min(count.at for count in reader._counted.counts.values())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("prometheus"), reason="no prometheus on PATH (Debian: prometheus)")
def test_real(served: Callable[[], FakeTrack], tmp_path: Path) -> None:
    """Every answer counts once, although a pod restarts, one goes, one comes, and Prometheus is killed."""
    cluster = Cluster(tmp_path)
    a, b, c, d = (served() for _ in range(4))
    for pod in (a, b, c):
        pod.key, pod.answers = NEW, 40
    c.answers = 11
    cluster.place(a=a, b=b)
    program = cluster.start()
    try:
        reader = Prometheus(cluster.url, "shop-production", "canary")
        until(lambda: reader.unlike(NEW, 2) is None)
        until(lambda: reader.sample(NEW, time.time()).requests == 0)
        since = time.time()
        until(
            lambda: reader.sample(NEW, since) and earliest(reader) > since
        )  # no earlier scrape is still running

        def requests(expected: int) -> None:
            until(lambda: reader.sample(NEW, since).requests == expected)

        a.count(answers=70, high=4)
        b.count(answers=58, failed=2)
        requests(50)
        b.count(answers=9, failed=0)  # restarted
        requests(59)
        cluster.place(b=b, c=c)
        requests(70)
        until(lambda: reader.unlike(OLD) == f"still has b ({NEW}), c ({NEW})")
        again = Prometheus(cluster.url, "shop-production", "canary").sample(NEW, since)
        assert again == reader.sample(NEW, since)
        assert (again.failed, again.scores.counts[1.0]) == (2, 4)
        program.kill()
        program.wait()
        with pytest.raises(Unread):
            reader.sample(NEW, since)
        b.answers += 5
        program = cluster.start()
        requests(75)
        d.key = OLD
        cluster.place(b=b, c=c, d=d)
        until(lambda: reader.unlike(NEW) == f"still has d ({OLD})")
        assert Prometheus(cluster.url, "other", "canary").unlike(NEW) == "has no pod that Prometheus scrapes"
    finally:
        program.kill()
        program.wait()
