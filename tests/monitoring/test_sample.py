"""The judge reads a track's sample from its /metrics."""

import httpx
import pytest
from shop import exposition

from loop.monitoring.sample import FAILED, HTTP, LATENCY, SCORE, Counted, Sample, Scrape, Unread, series

pytestmark = pytest.mark.sample
Row = tuple[str, dict[str, str], float]


def of_rows(*looks: list[Row]) -> Sample:
    """Return the sample of release a1 after one or several scrapes of series (name, labels, value)."""
    counted = Counted("a1", since=-1)
    for at, rows in enumerate(looks):
        for name, labels, value in rows:
            counted.add({**labels, "__name__": name}, [(at, value)])
    return counted.sample()


def parse(*pages: str) -> Sample:
    """Return the sample of release a1 after scrapes of these pages."""
    return of_rows(
        *([(labels["__name__"], labels, value) for labels, value in series(each)] for each in pages)
    )


def test_counts() -> None:
    """Answers and the model's failures count, but a caller's mistakes and probes do not."""
    found = parse(exposition("a1", 20, 2, 2, caller=9))
    assert (found.requests, found.failed) == (22, 2)
    assert found.latency.counts == {0.01: 0, 0.1: 20, float("inf"): 0}
    assert found.latency.quantile(0.5) == pytest.approx(0.055)
    assert found.scores.counts[0.5] == 20


def test_failed_before_the_model() -> None:
    """A request that failed before it reached the model counts, although only the HTTP counters have it."""
    found = parse(exposition("a1", 20, 0, 7))
    assert (found.requests, found.failed) == (27, 7)


def test_refused() -> None:
    """Answers of 429 are counted separately, by the app's counter or the server's, whichever is larger."""
    rows = [
        (f"{FAILED}_total", {**OURS, "reason": "overload"}, 3.0),
        (f"{HTTP}_total", {**SERVED, "http_response_code": "429"}, 4.0),
    ]
    found = of_rows(rows)
    assert (found.refused, found.requests, found.failed) == (4, 0, 0)


def test_another_version() -> None:
    """Answers of another release do not count for this one."""
    assert parse(exposition("b2", 20, 2, 2)) == Sample()


def test_a_restart() -> None:
    """Answers from before and after a restart count."""
    found = parse(*(exposition("a1", answers, 1, 0) for answers in (10, 30, 7)))
    assert (found.requests, found.failed, found.latency.total, found.scores.total) == (38, 1, 37, 37)


def test_counting_begins_with_the_first_page_that_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first readable page is the base of the counts, even after a page that could not be read."""
    pages = iter(["<html>", *(exposition("a1", answers, 1, 0) for answers in (10, 30))])
    monkeypatch.setattr("loop.monitoring.sample.fetch", lambda *_: httpx.Response(200, text=next(pages)))
    track = Scrape("http://canary.test")
    with pytest.raises(Unread):
        track.sample("a1", 0)
    assert [track.sample("a1", 0).requests for _ in range(2)] == [0, 20]


OURS = {"version": "a1"}
SERVED = {"service_version": "a1", "endpoint": "/predict", "http_response_code": "500"}
ODD = {
    "le is a word": (f"{LATENCY}_bucket", {**OURS, "le": "abc"}, 5.0),
    "le is NaN": (f"{LATENCY}_bucket", {**OURS, "le": "NaN"}, 5.0),
    "le is nothing": (f"{LATENCY}_bucket", {**OURS, "le": "0"}, 5.0),
    "le is negative": (f"{SCORE}_bucket", {**OURS, "le": "-Inf"}, 5.0),
    "le is an escape": (f"{SCORE}_bucket", {**OURS, "le": "\x1b[2J\n" * 999}, 5.0),
    "no le": (f"{SCORE}_bucket", OURS, 5.0),
    "no reason": (f"{FAILED}_total", OURS, 5.0),
    "no endpoint": (f"{HTTP}_total", {"service_version": "a1", "http_response_code": "500"}, 5.0),
    "no status": (f"{HTTP}_total", {"service_version": "a1", "endpoint": "/predict"}, 5.0),
    "NaN": (f"{LATENCY}_bucket", {**OURS, "le": "+Inf"}, float("nan")),
    "negative": (f"{FAILED}_total", {**OURS, "reason": "model"}, -5.0),
    "infinite": (f"{HTTP}_total", SERVED, float("inf")),
    "beyond counting": (f"{HTTP}_total", SERVED, 1e300),
}


@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
def test_a_series_that_cannot_be_read_is_skipped(row: tuple[str, dict[str, str], float]) -> None:
    """An unreadable series is named in a few printable words, and the others count as without it."""
    good = [(f"{name}_bucket", {**OURS, "le": "0.5"}, 7.0) for name in (LATENCY, SCORE)]
    found = of_rows([*good, row])
    assert (found.requests, found.failed, found.scores.total) == (7, 0, 7)
    (said,) = found.skipped
    assert said.startswith(row[0])
    assert said.isprintable()
    assert len(said) < 100


def test_counts_that_fall_are_no_negative_answers() -> None:
    """A bucket with a lower count than the bucket before it gives no negative count."""
    buckets = {"0.1": 9.0, "0.5": 4.0, "+Inf": 6.0}
    rows = [(f"{LATENCY}_bucket", {**OURS, "le": le}, value) for le, value in buckets.items()]
    assert list(of_rows(rows).latency.counts.values()) == [9, 0, 0]


LONG_LINE = 'a{b="' + '\\"' * 900_000 + '"} 1\n'  # the parser would take minutes


@pytest.mark.parametrize(
    "page", ["model_x{", "<html>", 'a{le="1"} x', "a 1\na{b=\x00} 1", "}" * 10_000, LONG_LINE]
)
def test_a_page_that_is_none_is_unread(page: str) -> None:
    """Like Prometheus, the judge takes no series from an invalid page, and raises Unread."""
    with pytest.raises(Unread, match=r"^metrics cannot be read: .{1,250}$"):
        series(page)
