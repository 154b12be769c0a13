"""Sends requests at a steady rate (an open loop), whether or not earlier ones have been answered.

`python open_loop.py PORT PATH RATE SECONDS FILE…` posts the files in turn and prints totals as JSON. A
request's latency counts from the time at which it was due, so waiting for a connection is included. Timers
are libuv's, so latencies are accurate to about a millisecond.
"""

import argparse
import asyncio
import json
from collections import Counter, deque
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import httptools
import uvloop

PATIENCE = 15.0  # seconds to wait for the last answers
HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)


class Connection(asyncio.Protocol):
    """A connection to the server, which carries one request at a time."""

    def __init__(self, load: "Load") -> None:
        self._load, self._due = load, 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, due: float, request: bytes) -> None:
        self._due, self._parser = due, httptools.HttpResponseParser(self)
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        due, self._due = self._due, 0.0
        self._load.answered(self, due, self._parser.get_status_code())

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.lost(self, self._due)


class Load:
    """The load: requests that are due, connections that are free, and counts of the answers."""

    def __init__(self) -> None:
        self._free: list[Connection] = []
        self._due: deque[tuple[float, bytes]] = deque()
        self.took: list[float] = []
        self.statuses: Counter[int] = Counter()

    async def run(self, given: argparse.Namespace, requests: list[bytes]) -> None:
        """Send the requests at the given rate for the given time, and wait for the answers."""
        loop, bodies, rate = asyncio.get_running_loop(), cycle(requests), given.rate
        for _ in range(given.connections):
            _, connection = await loop.create_connection(lambda: Connection(self), given.address, given.port)
            self._free.append(connection)
        begun, count = perf_counter(), int(rate * given.seconds)
        for number in range(count):
            due = begun + number / rate
            if (early := due - perf_counter()) > 0:
                await asyncio.sleep(early)
            self._due.append((due, next(bodies)))
            self._send()
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while self.statuses.total() < count:  # noqa: ASYNC110 - an event would slow every answer
                    await asyncio.sleep(0.01)
        self.statuses[0] += count - self.statuses.total()

    def _send(self) -> None:
        while self._free and self._due:
            self._free.pop().send(*self._due.popleft())

    def answered(self, connection: Connection, due: float, status: int) -> None:
        """Record latency and status of a response, and send the next due request on the freed connection."""
        self.took.append(perf_counter() - due)
        self.statuses[status] += 1
        self._free.append(connection)
        self._send()

    def lost(self, connection: Connection, due: float) -> None:
        """Record a request as lost, because its connection was closed before the answer."""
        if connection in self._free:
            self._free.remove(connection)
        if due:
            self.statuses[0] += 1


def main() -> None:
    """Run the load that the command line describes, and print the totals as JSON."""
    parser = argparse.ArgumentParser("open_loop", description=__doc__)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--host", default="127.0.0.1", help="the Host header, by which a gateway routes")
    parser.add_argument("--connections", type=int, default=64)
    for name, kind in (("port", int), ("path", str), ("rate", float), ("seconds", float)):
        parser.add_argument(name, type=kind)
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    bodies = [file.read_bytes() for file in given.files]
    requests = [
        HEAD.format(path=given.path, host=given.host, length=len(body)).encode() + body for body in bodies
    ]
    load = Load()
    uvloop.run(load.run(given, requests))
    took = sorted(load.took)
    p50, p99, worst = (took[min(int(share * len(took)), len(took) - 1)] * 1e3 for share in (0.5, 0.99, 1))
    statuses = {str(status or "lost"): count for status, count in load.statuses.items() if count}
    failed = load.statuses.total() - load.statuses[200]
    latency = {"p50_ms": p50, "p99_ms": p99, "worst_ms": worst}
    said = {"rate": given.rate, "seconds": given.seconds, "failed": failed, **latency, "statuses": statuses}
    print(json.dumps(said))


if __name__ == "__main__":
    main()
