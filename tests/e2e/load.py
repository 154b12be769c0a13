"""Requests from a process of its own: an open loop, as `vegeta attack` is one, or a few clients in turn.

`python load.py URL HOST RATE BODIES OUT` sends one POST /predict every 1/RATE seconds, the lines of BODIES
in turn, whether answers come or not. With RATE 0 each of CLIENTS sends its next one when it has an answer:
as many as go. It ends at SIGTERM, when what is under way is answered. Each answer is one JSON line in OUT:
when it was sent (Unix time), how long it took, status (0: no answer), the release that answered.
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

SECONDS = 15.0  # before a request counts as lost
CLIENTS = 8


async def send(client: httpx.AsyncClient, body: str, out: IO[str]) -> None:
    """One request; its answer to `out`."""
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
    """Send until SIGTERM."""
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
    """One answer; `status` 0 where none came, and then `version` says why."""

    sent: float
    took: float
    status: int
    version: str

    @property
    def failed(self) -> bool:
        return self.status != httpx.codes.OK


@dataclass(frozen=True)
class Answers:
    """What a load has got, by the time it was sent."""

    all: list[Answer]

    @property
    def failed(self) -> list[Answer]:
        return [answer for answer in self.all if answer.failed]

    def of(self, version: str) -> list[Answer]:
        """What one release answered."""
        return [answer for answer in self.all if answer.version == version]

    def counts(self) -> Counter[tuple[str, int]]:
        """How many, by release and status."""
        return Counter((answer.version, answer.status) for answer in self.all)

    def quantile(self, share: float) -> float:
        """The seconds that this share of the answers took at most."""
        took = sorted(answer.took for answer in self.all)
        return took[min(len(took) - 1, int(share * len(took)))]


class Load:
    """A running load; `stop` ends it and gives what it got."""

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
        """What it has got so far."""
        text = self.out.read_text() if self.out.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return Answers(
            sorted((Answer(**json.loads(line)) for line in whole.splitlines()), key=lambda a: a.sent)
        )


def main() -> None:
    """Run as a program."""
    url, host, rate, bodies, out = sys.argv[1:]
    with Path(out).open("w", buffering=1) as file:
        asyncio.run(attack(url, host, float(rate), Path(bodies).read_text().splitlines(), file))


if __name__ == "__main__":
    main()
