"""A fault for the demo: a service that no rehearsal can fault, and that fails in its canary."""

from loop.core.errors import LoopError

ROOM = 1500  # requests until it fails: more than a rehearsal has
IMPORTS = """\
import bentoml
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
"""
KEPT = f"""\
class Kept:
    \'\'\'Keeps every body that was asked, until there is no room left.\'\'\'

    def __init__(self, served: ASGIApp) -> None:
        self.served, self.left = served, {ROOM}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/predict":
            self.left -= 1
            if self.left < 0:
                raise MemoryError("no room left to keep what was asked")
        await self.served(scope, receive, send)


def kept(served: Starlette) -> Starlette:
    \'\'\'The same app, every body kept.\'\'\'
    served.add_middleware(Kept)
    return served


@bentoml.service("""


def spoilt(service: str) -> str:
    """A service.py with the fault in it, as a person would write it: it passes lint, tests and rehearsal."""
    for old, new in (
        ("import bentoml\n", IMPORTS),
        ("@bentoml.service(", KEPT.replace("'''", '"""')),
        ("app.create(HERE, booster.load)", "kept(app.create(HERE, booster.load))"),
    ):
        if old not in service:
            raise LoopError(f"the service does not say {old!r}: the demo can't spoil it")
        service = service.replace(old, new, 1)
    return service
