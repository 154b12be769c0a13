"""A fault for the demo: it passes lint, tests and rehearsal, and fails behind the gateway only."""

from loop.core.errors import LoopError

IMPORTS = """\
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
"""
NUMBERED = """
class Numbered:
    '''Numbers each prediction as the gateway numbers its requests.'''

    def __init__(self, served: ASGIApp) -> None:
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/predict":
            # A gateway's x-request-id is a UUID, and no number; a rehearsal has no gateway.
            scope["number"] = int(Headers(scope=scope).get("x-request-id", "0"))
        await self.served(scope, receive, send)


def numbered(served: Starlette) -> Starlette:
    '''The same app, its predictions numbered.'''
    served.add_middleware(Numbered)
    return served


application = """


def spoilt(service: str) -> str:
    """An asgi.py with the fault in it, as a person would write it."""
    for old, new in (
        ("from pathlib import Path\n", IMPORTS),
        ("application = ", NUMBERED.replace("'''", '"""')),
        (
            "app.create(Path(__file__).parent, load)",
            "numbered(app.create(Path(__file__).parent, load))",
        ),
    ):
        if old not in service:
            raise LoopError(f"the application does not say {old!r}: the demo can't spoil it")
        service = service.replace(old, new, 1)
    return service
