"""A load generator in its own process: an open loop like `vegeta attack`, or a closed loop of a few clients.

`python load.py URL HOST RATE BODIES OUT` sends a POST /predict every 1/RATE seconds, whether or not answers
come, and takes the bodies from the lines of BODIES in turn. With RATE 0, each of CLIENTS sends its next
request as soon as it has the answer to the last one. At SIGTERM it waits for the answers that are still
missing, and ends. OUT gets a JSON line for each answer: when the request was sent (Unix time), how long it
took, the status (0 if no answer came), and the release that answered.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import IO, Self

import httpx

SECONDS = 15.0  # after which a request counts as lost
CLIENTS = 8


async def send(client: httpx.AsyncClient, body: str, out: IO[str]) -> None:
    """Send one request, and write its answer to `out`."""
    sent, begun = time.time(), time.perf_counter()
    try:
        answer = await client.post("/predict", content=body)
        status, version = answer.status_code, ""
        if answer.is_success:
            version = answer.json()["model_version"]
    except httpx.HTTPError as error:
        status, version = 0, type(error).__name__
    took = time.perf_counter() - begun
    out.write(json.dumps({"sent": sent, "took": took, "status": status, "version": version}) + "\n")


async def attack(url: str, host: str, rate: float, bodies: list[str], out: IO[str]) -> None:
    """Send requests until SIGTERM."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    headers = {"Host": host, "Content-Type": "application/json"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    client = httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=SECONDS, trust_env=False)
    endless = cycle(bodies)

    async def in_turn() -> None:
        while not stop.is_set():
            await send(client, next(endless), out)

    async with client, asyncio.TaskGroup() as group:
        if not rate:
            for _ in range(CLIENTS):
                group.create_task(in_turn())
            return
        due = loop.time()
        while not stop.is_set():
            group.create_task(send(client, next(endless), out))
            due += 1 / rate
            await asyncio.sleep(max(0, due - loop.time()))


@dataclass(frozen=True)
class Answer:
    """An answer. If none came, `status` is 0 and `version` is the error's name."""

    sent: float
    took: float
    status: int
    version: str

    @property
    def failed(self) -> bool:
        return self.status != httpx.codes.OK


@dataclass(frozen=True)
class Answers:
    """The answers that a load has got, in the order in which their requests were sent."""

    all: list[Answer]

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.all if answer.failed]

    def of(self, version: str) -> list[Answer]:
        """Return the answers of one release."""
        return [answer for answer in self.all if answer.version == version]

    def counts(self) -> Counter[tuple[str, int]]:
        """Count the answers by release and status."""
        return Counter((answer.version, answer.status) for answer in self.all)

    def quantile(self, share: float) -> float:
        """Return the seconds within which this share of the answers came."""
        took = sorted(answer.took for answer in self.all)
        return took[min(len(took) - 1, int(share * len(took)))]


class Load:
    """A running load. It stops when the `with` block ends."""

    def __init__(self, url: str, host: str, rate: float, bodies: Path, out: Path) -> None:
        self.out = out
        command = [sys.executable, __file__, url, host, str(rate), str(bodies), str(out)]
        self._process = subprocess.Popen(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=SECONDS + 15)

    def answers(self) -> Answers:
        """Return the answers so far."""
        text = self.out.read_text() if self.out.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return Answers(
            sorted((Answer(**json.loads(line)) for line in whole.splitlines()), key=lambda a: a.sent)
        )


def main() -> None:
    url, host, rate, bodies, out = sys.argv[1:]
    with Path(out).open("w", buffering=1) as file:
        asyncio.run(attack(url, host, float(rate), Path(bodies).read_text().splitlines(), file))


if __name__ == "__main__":
    main()
