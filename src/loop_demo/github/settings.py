"""A repository's settings, as `./loop doctor` reads them: environments, secrets and branch rules.

`POST /_settings` sets them all at once, as GitHub's answers: {path below the repository: its answer}.
"""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from loop_demo.github.calls import Call


def change(call: Call) -> Response:
    """Replace all settings of a repository."""
    call.add("set", answers=call.body)
    return Response(status_code=204)


def answer(call: Call) -> Any:
    """Return the answer that a test has set for the call's path; HTTPException 404 if it has set none."""
    changes = call.of("set")
    if not changes or call.below not in changes[-1]["answers"]:
        raise HTTPException(404, "Not Found")
    return changes[-1]["answers"][call.below]
