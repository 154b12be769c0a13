"""A faulty change for the demo: it passes lint, tests and rehearsal, and fails only behind the gateway."""

from loop.core.errors import LoopError

IMPORTS = """\
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
"""
NUMBERED = """
class Numbered:
    '''Gives each prediction the number that the gateway gave its request.'''

    def __init__(self, served: ASGIApp) -> None:
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/predict":
            # The gateway sets x-request-id to a UUID, so int() fails. A rehearsal has no gateway and passes.
            scope["number"] = int(Headers(scope=scope).get("x-request-id", "0"))
        await self.served(scope, receive, send)


def numbered(served: Starlette) -> Starlette:
    '''Returns the same app with its predictions numbered.'''
    served.add_middleware(Numbered)
    return served


application = """


def spoilt(service: str) -> str:
    """Return the text of an asgi.py with the fault added, as a person might have written it."""
    changes = {
        "from pathlib import Path\n": IMPORTS,
        "application = ": NUMBERED.replace("'''", '"""'),
        "app.create(Path(__file__).parent, load)": "numbered(app.create(Path(__file__).parent, load))",
    }
    return changed(service, changes)


def changed(service: str, changes: dict[str, str]) -> str:
    """Return the text of an asgi.py with the first of each old text replaced by the new one."""
    for old, new in changes.items():
        if old not in service:
            raise LoopError(f"asgi.py has no {old!r}, so the demo cannot add its fault there")
        service = service.replace(old, new, 1)
    return service
