"""A faulty change for the demo: it passes lint, tests and rehearsal, and fails only behind the gateway."""

from loop.core.errors import LoopError

IMPORTS = """\
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
"""
NUMBERED = """
def numbered(served: ASGIApp) -> ASGIApp:
    '''Gives each prediction the number that the gateway gave its request.'''

    async def numbering(scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/predict":
            # The gateway sets x-request-id to a UUID, so int() fails. A rehearsal has no gateway and passes.
            scope["number"] = int(Headers(scope=scope).get("x-request-id", "0"))
        await served(scope, receive, send)

    return numbering


application = """
CREATED = "app.create(Path(__file__).parent, load)\n"


def spoilt(service: str) -> str:
    """Return the text of an asgi.py with the fault added, as a person might have written it."""
    changes = {
        "from pathlib import Path\n": IMPORTS,
        "application = ": NUMBERED.replace("'''", '"""'),
        CREATED: f"{CREATED}application.add_middleware(numbered)\n",
    }
    return changed(service, changes)


def changed(service: str, changes: dict[str, str]) -> str:
    """Return the text of an asgi.py with the first of each old text replaced by the new one."""
    for old, new in changes.items():
        if old not in service:
            raise LoopError(f"asgi.py has no {old!r}, so the demo cannot add its fault there")
        service = service.replace(old, new, 1)
    return service
