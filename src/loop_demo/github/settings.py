"""A repository's settings: environments, secrets and branch rules.

`POST /_settings` sets all settings at once. Its body has the optional keys {"environments": {name:
{"branches": [names], or null for any branch, "secrets": {name: value}}}, "organization_secrets": [names],
"rules": [rules in GitHub's form]}.
"""

from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from loop_demo.github import shapes
from loop_demo.github.calls import Call
from loop_demo.github.state import now


def change(call: Call) -> Response:
    """Replace all settings of a repository."""
    with call.state.change() as data:
        data["settings"][call.repo.name] = call.body
    return Response(status_code=204)


def _environment(call: Call) -> dict[str, Any]:
    found = call.state.settings(call.repo.name).get("environments", {}).get(call.path["environment_name"])
    if found is None:
        raise HTTPException(404, "Not Found")
    return dict(found)


def environments(call: Call) -> Response:
    """Answer with the repository's environments, and for each whether only some branches may use it."""
    found = call.state.settings(call.repo.name).get("environments", {})
    shown = [_shown(call, name, limited=each["branches"] is not None) for name, each in found.items()]
    return JSONResponse({"total_count": len(shown), "environments": call.page(shown)})


def _shown(call: Call, name: str, *, limited: bool) -> dict[str, Any]:
    api, page = f"{call.runner.url}/repos/{call.repo.name}", f"{call.runner.url}/{call.repo.name}"
    known = shapes.number(f"{call.repo.name}/{name}")
    policy = {"protected_branches": False, "custom_branch_policies": True}
    return {
        "id": known,
        "node_id": f"EN_{known}",
        "name": name,
        "url": f"{api}/environments/{name}",
        "html_url": f"{page}/deployments/activity_log?environments_filter={name}",
        "created_at": now(),
        "updated_at": now(),
        "protection_rules": [{"id": 1, "node_id": "GA_1", "type": "branch_policy"}] if limited else [],
        "deployment_branch_policy": policy if limited else None,
    }


def policies(call: Call) -> Response:
    """Answer with the names of the branches that may use an environment."""
    named = enumerate(_environment(call)["branches"] or [], start=1)
    shown = [{"id": n, "node_id": f"DBP_{n}", "name": name, "type": "branch"} for n, name in named]
    return JSONResponse({"total_count": len(shown), "branch_policies": call.page(shown)})


def environment_secrets(call: Call) -> Response:
    """Answer with the names of an environment's secrets."""
    return _named(call, list(_environment(call)["secrets"]))


def secrets(call: Call) -> Response:
    """Answer with the names of the repository's own secrets."""
    return _named(call, [secret.partition("=")[0] for secret in call.runner.secrets])


def organization_secrets(call: Call) -> Response:
    """Answer with the names of the organization's secrets that the repository may use."""
    return _named(call, call.state.settings(call.repo.name).get("organization_secrets", []))


def _named(call: Call, names: list[str]) -> Response:
    shown = [{"name": name, "created_at": now(), "updated_at": now()} for name in names]
    return JSONResponse({"total_count": len(shown), "secrets": call.page(shown)})


def rules(call: Call) -> Response:
    """Answer with the active rules of a branch."""
    return JSONResponse(call.page(call.state.settings(call.repo.name).get("rules", [])))
