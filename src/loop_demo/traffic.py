"""Sends prediction requests to the demo's gateway: live traffic of one row each, or past days in batches."""

import threading
import time
from collections import Counter
from datetime import datetime
from typing import Self

import httpx

from loop_demo.world import World

CHUNK = 64  # the number of rows of live traffic that are taken from the simulated production at a time
BATCH = 100  # the number of rows in a request while past days are replayed
CLIENTS = 4  # the number of clients that send live traffic


class Traffic:
    """Sends single-row requests at a steady rate in the background, and counts the answers by status."""

    def __init__(self, world: World, url: str, *, rate: float, before: datetime) -> None:
        self.world, self.url, self.before = world, url, before
        self.pause = CLIENTS / rate  # seconds between two requests of one client
        self.answers: Counter[int] = Counter()  # by status; 0 for lost connections
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _run(self) -> None:
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as client:
            due = time.monotonic()
            while not self._stop.is_set():
                # Without new rows before `before`, some of the latest rows are requested again
                for body in self.world.take(CHUNK, self.before) or self.world.again(CHUNK):
                    due = max(due + self.pause, time.monotonic())
                    if self._stop.wait(due - time.monotonic()):
                        return
                    try:
                        self.answers[client.post("/predict", json=body).status_code] += 1
                    except httpx.TransportError:
                        self.answers[0] += 1


def replay(world: World, url: str, before: datetime, every: int, *, host: str | None = None) -> int:
    """Let production run on until `before`. All rows are logged; one in `every` is scored, in batches.

    `host` is the Host header, needed where the gateway routes by host name. Returns the number of scored
    rows.
    """
    scored = 0
    headers = {"Host": host} if host else {}
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        while rows := world.take(BATCH * every, before):
            some = rows[::every]
            body = {name: [row[name] for row in some] for name in rows[0]}
            client.post("/predict", json=body).raise_for_status()
            scored += len(some)
    return scored
