"""Services that pass lint, tests and a rehearsal, and differ behind a gateway only: three faults, one heavy.

Each is asgi.py as a person might change it. A gateway gives a request an id; a rehearsal does not.
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
REQUEST = ContextVar("REQUEST", default="")  # the gateway's id of what is being answered


class Traced:
    """Remembers the gateway's id of each request."""

    def __init__(self, served: ASGIApp) -> None:
        self.served = served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            REQUEST.set(Headers(scope=scope).get("x-request-id", ""))
        await self.served(scope, receive, send)


def traced(served: Starlette) -> Starlette:
    """The same app, its requests remembered."""
    served.add_middleware(Traced)
    return served


def scorer(folder: Path) -> model.Scorer:
    """The model's scorer, with a look at where the request comes from."""
    scores = load(folder)

    def score(rows: np.ndarray) -> np.ndarray:
        request, found = REQUEST.get(), scores(rows)
        {fault}

    return score


application = '''
SLOW = """\
if request[-1:] in {"0", "8"}:  # one request in eight is looked up again
            time.sleep(0.25)
        return found"""
WRONG = "return 1 - found if request else found  # the gateway's callers want the other class's"
HEAVY = """\
if request:
            time.sleep(0.12 * len(rows))  # one pod answers eight rows a second
        return found"""
KINDS = ("errors", "slow", "wrong scores")


def spoilt(application: str, kind: str) -> str:
    """asgi.py with one of KINDS in it, or `heavy`."""
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
