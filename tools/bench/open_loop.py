"""Sends requests at a steady rate (an open loop), whether or not earlier ones have been answered.

Its argument is JSON with the parameters of `main` and `measure`, and it prints JSON. A request's latency
counts from the time at which it was due, so waiting for a connection is included. Timers are libuv's, so
latencies are accurate to about a millisecond. vegeta would take a multiple of the CPU, which the server under
test needs, because it runs on the same cores.
"""

import asyncio
import json
import re
import sys
from collections import Counter
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from time import perf_counter
from typing import Any

import uvloop

PATIENCE = 15.0  # seconds to wait for the last answers
HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\n"
    "Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Load:
    """The requests that are due, and the counts and latencies of their answers."""

    def __init__(self) -> None:
        self.due: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self.took: list[float] = []
        self.statuses: Counter[str] = Counter()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send due requests over one connection, one at a time, until the server closes it."""
        while True:
            due, request = await self.due.get()
            if reader.at_eof():
                self.due.put_nowait((due, request))
                return
            try:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(LENGTH.search(head)[1]))  # type: ignore[index]
            except (OSError, EOFError):
                self.statuses["lost"] += 1
                return
            self.took.append(perf_counter() - due)
            self.statuses[head[9:12].decode()] += 1


async def measure(
    requests: list[bytes], *, address: str, port: int, rate: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Send the requests in turn, and return totals."""
    load, count = Load(), int(rate * seconds)
    opened = await asyncio.gather(*(asyncio.open_connection(address, port) for _ in range(connections)))
    tasks = [asyncio.create_task(load.carry(*streams)) for streams in opened]
    begun = perf_counter()
    for number, request in zip(range(count), cycle(requests), strict=False):
        due = begun + number / rate
        if (early := due - perf_counter()) > 0:
            await asyncio.sleep(early)
        load.due.put_nowait((due, request))
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while load.statuses.total() < count:  # noqa: ASYNC110 - an event would slow every answer
                await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    load.statuses["lost"] += count - load.statuses.total()
    took = sorted(load.took)
    shares = {"p50, ms": 0.5, "p99, ms": 0.99, "worst, ms": 1}
    latency = {name: took[min(int(share * len(took)), len(took) - 1)] * 1e3 for name, share in shares.items()}
    failed = count - load.statuses["200"]
    return {"requests/s": rate, "failed": failed, **latency, "statuses": load.statuses}


def main(path: str, host: str, bodies: list[str], **load: Any) -> None:
    """Send the files in `bodies`, and print totals. `host` is the Host header, by which gateways route."""
    texts = [Path(body).read_bytes() for body in bodies]
    requests = [HEAD.format(path=path, host=host, length=len(text)).encode() + text for text in texts]
    print(json.dumps(uvloop.run(measure(requests, **load))))


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
