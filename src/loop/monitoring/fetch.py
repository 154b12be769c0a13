"""HTTP requests to untrusted servers, with limits on time and size."""

import asyncio

import httpx

from loop.core.remote import by_proxy, certificates


def fetch(
    url: str, seconds: float, most: int = 64 * 1024, form: dict[str, str] | None = None
) -> httpx.Response:
    """GET a URL, or POST a form to it.

    Raises httpx.HTTPError if the answer takes too long or is larger than `most` bytes.
    """
    try:
        return asyncio.run(asyncio.wait_for(_answer(url, seconds, most, form), seconds))
    except TimeoutError:
        raise httpx.ReadTimeout(f"{url}: no complete answer within {seconds:g} s") from None
    except (httpx.InvalidURL, ValueError) as error:  # raised by httpx for headers that it cannot parse
        raise httpx.RemoteProtocolError(f"{url}: {type(error).__name__}: {error}") from error


async def _answer(url: str, seconds: float, most: int, form: dict[str, str] | None) -> httpx.Response:
    body = bytearray()
    plain = {"Accept-Encoding": "identity"}  # no compression, because a small answer could expand to any size
    async with (
        httpx.AsyncClient(timeout=seconds, trust_env=by_proxy(url), verify=certificates()) as client,
        client.stream("POST" if form else "GET", url, headers=plain, data=form) as answer,
    ):
        async for part in answer.aiter_raw():
            body += part
            if len(body) > most:
                raise httpx.ReadError(f"{url}: the answer is larger than {most} bytes")
    return httpx.Response(answer.status_code, content=bytes(body))
