"""Webhooks: what is pushed is told to others, in GitHub's words and with its signature."""

import hashlib
import hmac
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx

SECONDS = 10  # how long GitHub waits for an answer


class Hooks:
    """Sends each event to every URL, in order, behind the back of whoever caused it."""

    def __init__(self, urls: list[str], secret: str) -> None:
        self.urls, self._secret = urls, secret
        self._queues = {url: ThreadPoolExecutor(max_workers=1) for url in urls}

    def send(self, event: str, payload: dict[str, Any]) -> None:
        """Queue one delivery for each URL; as at GitHub, what is not taken is not sent again."""
        body = json.dumps(payload).encode()
        for url, queue in self._queues.items():
            queue.submit(self._deliver, url, event, body)

    def stop(self) -> None:
        """Forget what is not sent yet."""
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
            print(f"hook {url}: {event} was not taken: {error}", file=sys.stderr, flush=True)
