"""Pushes the monitor's metrics to a Pushgateway, because its job ends before Prometheus could scrape it."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from loop.core.errors import LoopError
from loop.core.github import GitHub
from loop.core.names import public
from loop.core.remote import by_proxy

HEADER = "github-authentication-token-expiration"
PATIENT = Retrying(  # tries again for eight seconds in all
    retry=retry_if_exception_type(httpx.TransportError),
    wait=wait_exponential(multiplier=0.5),
    stop=stop_after_attempt(5),
    reraise=True,
)


def push(url: str, model: str, metrics: Path) -> None:
    """Push a file in Prometheus' text format, replacing all metrics of this model in a Pushgateway.

    Raises LoopError if the Pushgateway cannot be reached or rejects the metrics.
    """
    group = f"{url.rstrip('/')}/metrics/job/monitor/model/{quote(public(model), safe='')}"
    sent = {"content": metrics.read_bytes(), "headers": {"Content-Type": "text/plain; version=0.0.4"}}
    try:
        answer = PATIENT(httpx.put, group, **sent, timeout=30, trust_env=by_proxy(group))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise LoopError(f"{group}: {error!r}", fix="check that a Pushgateway runs at this URL") from error
    if answer.is_error:
        raise LoopError(f"{group}: {answer.status_code} {answer.text[:500]}", fix=f"correct {metrics}")


def token_ends(github: GitHub) -> datetime | None:
    """Return when a GitHub token expires (UTC), read from a response header; None if it never expires.

    GitHub writes the time as `2026-05-01 12:00:00 UTC`, or with an offset in place of UTC. Raises LoopError
    if the header has another form.
    """
    if not (said := github.answer("GET", "").headers.get(HEADER)):
        return None
    try:
        return datetime.strptime(said.replace("UTC", "+0000"), "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
    except ValueError as error:
        raise LoopError(f"{github.url}: header {HEADER} is not a time: {said!r}") from error
