"""Webhooks: push events are sent to other servers, in GitHub's format and with GitHub's signature."""

import hashlib
import hmac
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx

SECONDS = 10  # how long GitHub waits for a webhook's answer


class Hooks:
    """Sends events to every URL, in order and in the background, so that a push does not wait."""

    def __init__(self, urls: list[str], secret: str) -> None:
        self.urls, self._secret = urls, secret
        self._queues = {url: ThreadPoolExecutor(max_workers=1) for url in urls}

    def send(self, event: str, payload: dict[str, Any]) -> None:
        """Queue a delivery to each URL. As at GitHub, a failed delivery is not repeated."""
        body = json.dumps(payload).encode()
        for url, queue in self._queues.items():
            queue.submit(self._deliver, url, event, body)

    def stop(self) -> None:
        """Stop sending, and drop the deliveries that are still queued."""
        for queue in self._queues.values():
            queue.shutdown(cancel_futures=True)

    def _deliver(self, url: str, event: str, body: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/stand-in",
            "X-GitHub-Delivery": str(uuid4()),
            "X-GitHub-Event": event,
        }
        if self._secret:
            signature = hmac.new(self._secret.encode(), body, hashlib.sha256).hexdigest()
            headers["X-Hub-Signature-256"] = f"sha256={signature}"
        try:
            httpx.post(url, content=body, headers=headers, timeout=SECONDS).raise_for_status()
        except httpx.HTTPError as error:
            print(f"hook {url}: {event} was not delivered: {error}", file=sys.stderr, flush=True)
