"""A repository's settings, as `./loop doctor` checks them: environments, secrets and branch rules.

`POST /_settings` sets all settings at once. Its body has the optional keys {"environments": {name:
{"branches": [names], or null for any branch, "secrets": {name: value}}}, "organization_secrets": [names],
"rules": [rules in GitHub's form]}.
"""

from collections.abc import Callable, Iterable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from loop_demo.github.calls import Call


def change(call: Call) -> Response:
    """Replace all settings of a repository."""
    call.add("set", settings=call.body)
    return Response(status_code=204)


def _held(call: Call, key: str) -> Any:
    found = call.of("set")
    return found[-1]["settings"].get(key, {}) if found else {}


def _environment(call: Call) -> dict[str, Any]:
    if (found := _held(call, "environments").get(call.path["environment_name"])) is None:
        raise HTTPException(404, "Not Found")
    return dict(found)


def environments(call: Call) -> dict[str, Any]:
    """Answer with the repository's environments, and for each whether only some branches may use it."""
    limited = {"protected_branches": False, "custom_branch_policies": True}
    shown = [
        {"name": name, "deployment_branch_policy": None if each["branches"] is None else limited}
        for name, each in _held(call, "environments").items()
    ]
    return call.counted("environments", shown)


def named(
    key: str, names: Callable[[Call], Iterable[str]], **fields: str
) -> Callable[[Call], dict[str, Any]]:
    """Return a handler that answers with a list of names as the field `key`."""
    return lambda call: call.counted(key, [{"name": name, **fields} for name in names(call)])


policies = named("branch_policies", lambda call: _environment(call)["branches"] or [], type="branch")
environment_secrets = named("secrets", lambda call: _environment(call)["secrets"])
secrets = named("secrets", lambda call: [each.partition("=")[0] for each in call.runner.options.secret])
organization_secrets = named("secrets", lambda call: _held(call, "organization_secrets"))


def rules(call: Call) -> list[Any]:
    """Answer with the active rules of a branch."""
    return call.page([*_held(call, "rules")])
