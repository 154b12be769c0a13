"""Webhooks: push events are sent to other servers, in GitHub's format and with GitHub's signature."""

import hashlib
import hmac
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

SECONDS = 10  # how long GitHub waits for a webhook's answer


class Hooks:
    """Sends events to every URL, in order and in the background, so that a push does not wait."""

    def __init__(self, urls: list[str], secret: str) -> None:
        self._secret = secret
        self._queues = {url: ThreadPoolExecutor(max_workers=1) for url in urls}

    def send(self, event: str, payload: dict[str, Any]) -> None:
        """Queue a delivery to each URL. As at GitHub, a failed delivery is not repeated."""
        body = json.dumps(payload).encode()
        signature = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": event,
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        for url, queue in self._queues.items():
            queue.submit(_deliver, url, body, headers)

    def stop(self) -> None:
        """Stop sending, and drop the deliveries that are still queued."""
        for queue in self._queues.values():
            queue.shutdown(cancel_futures=True)


def _deliver(url: str, body: bytes, headers: dict[str, str]) -> None:
    try:
        httpx.post(url, content=body, headers=headers, timeout=SECONDS).raise_for_status()
    except httpx.HTTPError as error:
        print(f"hook {url}: not delivered: {error}", file=sys.stderr, flush=True)
