"""HTTP requests to untrusted servers, with limits on time and size."""

import asyncio
from typing import NamedTuple

import httpx

from loop.core.remote import by_proxy


class Fetched(NamedTuple):
    """A server's answer: HTTP status and body."""

    status: int
    body: bytes

    @property
    def good(self) -> bool:
        return self.status // 100 == 2  # noqa: PLR2004 — 2xx


def fetch(url: str, seconds: float, most: int = 64 * 1024, form: dict[str, str] | None = None) -> Fetched:
    """GET a URL, or POST a form to it.

    Raises httpx.HTTPError if the answer takes too long or is larger than `most` bytes.
    """
    try:
        return asyncio.run(asyncio.wait_for(_answer(url, seconds, most, form), seconds))
    except TimeoutError:
        raise httpx.ReadTimeout(f"{url}: no complete answer within {seconds:g} s") from None
    except (httpx.InvalidURL, ValueError) as error:  # raised by httpx for headers that it cannot parse
        raise httpx.RemoteProtocolError(f"{url}: {type(error).__name__}: {error}") from error


async def _answer(url: str, seconds: float, most: int, form: dict[str, str] | None) -> Fetched:
    body = bytearray()
    plain = {"Accept-Encoding": "identity"}  # no compression, because a small answer could expand to any size
    async with (
        httpx.AsyncClient(timeout=seconds, trust_env=by_proxy(url)) as client,
        client.stream("POST" if form else "GET", url, headers=plain, data=form) as answer,
    ):
        async for part in answer.aiter_raw():
            body += part
            if len(body) > most:
                raise httpx.ReadError(f"{url}: the answer is larger than {most} bytes")
    return Fetched(answer.status_code, bytes(body))
