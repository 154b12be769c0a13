"""Services that pass lint, tests and rehearsal, but misbehave behind a gateway: three faults, one heavy load.

Each is asgi.py as a person might change it. It tells production from a rehearsal by the request's id, which
only a gateway adds.
"""

from loop_demo import fault

IMPORTS = """\
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
"""
TRACED = '''\
REQUEST = ContextVar("REQUEST", default="")  # the gateway's id of the current request


class Traced:
    """Remembers the gateway's id of each request."""

    def __init__(self, served: ASGIApp) -> None:
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            REQUEST.set(Headers(scope=scope).get("x-request-id", ""))
        await self.served(scope, receive, send)


def traced(served: Starlette) -> Starlette:
    """Return the app with a middleware that remembers each request's id."""
    served.add_middleware(Traced)
    return served


def scorer(folder: Path) -> model.Scorer:
    """Return the model's scorer, which also sees whether the request came through a gateway."""
    scores = load(folder)

    def score(rows: np.ndarray) -> np.ndarray:
        request, found = REQUEST.get(), scores(rows)
        {fault}

    return score


application = '''
SLOW = """\
if request[-1:] in {"0", "8"}:  # one request in eight needs another lookup
            time.sleep(0.25)
        return found"""
WRONG = "return 1 - found if request else found  # callers in production want the other class"
HEAVY = """\
if request:
            time.sleep(0.12 * len(rows))  # so one pod answers eight rows a second
        return found"""
KINDS = ("errors", "slow", "wrong scores")


def spoilt(application: str, kind: str) -> str:
    """Return asgi.py with the fault `kind`: one of KINDS, or `heavy`."""
    if kind == "errors":
        return fault.spoilt(application)
    body = {"slow": SLOW, "heavy": HEAVY, "wrong scores": WRONG}[kind]
    imports = f"import time\n{IMPORTS}" if "time." in body else IMPORTS
    changes = {
        "from pathlib import Path\n": imports,
        "runtime import app": "runtime import app, model",
        "application = ": TRACED.replace("{fault}", body),
        "app.create(Path(__file__).parent, load)": "traced(app.create(Path(__file__).parent, scorer))",
    }
    return fault.changed(application, changes)
