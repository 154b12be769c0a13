"""Handlers of GitHub's calls about workflows and their runs."""

from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import Response

from loop_demo.github import shapes, triggers
from loop_demo.github.calls import Call

# The fields of a run in which a query's value is looked for
FILTERS = {
    "status": ("status", "conclusion"),
    "event": ("event",),
    "branch": ("head_branch",),
    "head_sha": ("head_sha",),
}


def dispatch(call: Call) -> Any:
    """Start a workflow by workflow_dispatch; answer with the run if `return_run_details` is set."""
    inputs = call.body.get("inputs") or {}
    file, ref = call.path["workflow_id"], call.text("ref")
    run = triggers.dispatched(call.runner, call.repo, file, ref=ref, given=inputs, who=call.who)
    if not call.body.get("return_run_details"):
        return Response(status_code=204)
    shown = shapes.run(call.repo, run)
    return {"workflow_run_id": run["id"], "run_url": shown["url"], "html_url": shown["html_url"]}


def runs(call: Call) -> dict[str, Any]:
    """Answer with the runs of the repository or of one workflow, newest first."""
    asked = {key: value for key, value in call.query.items() if key not in ("page", "per_page")}
    if unknown := asked.keys() - FILTERS:
        raise HTTPException(422, f"The stand-in does not filter runs by {sorted(unknown)}")
    file = call.path.get("workflow_id")
    found = [
        run
        for run in reversed(call.of("runs"))
        if file in (None, Path(run["path"]).name)
        and all(value in [run[field] for field in FILTERS[key]] for key, value in asked.items())
    ]
    shown = [shapes.run(call.repo, run) for run in call.page(found)]
    return {"total_count": len(found), "workflow_runs": shown}


def run(call: Call) -> dict[str, Any]:
    """Answer with one workflow run."""
    return shapes.run(call.repo, call.find("runs", "id", "run_id"))


def cancel(call: Call) -> dict[str, Any]:
    """Cancel a run; HTTPException 409 if it has already ended."""
    if not call.runner.cancel(call.find("runs", "id", "run_id")):
        raise HTTPException(409, "Cannot cancel a workflow run that is completed.")
    return {}


def artifacts(call: Call) -> dict[str, Any]:
    """Answer with the artifacts of a run."""
    run, name = call.find("runs", "id", "run_id"), call.query.get("name")
    paths = [path for path in call.runner.artifacts(run) if name in (None, path.stem)]
    shown = [shapes.artifact(call.repo, run, path) for path in call.page(paths)]
    return {"total_count": len(paths), "artifacts": shown}


def archive(call: Call) -> Response:
    """Redirect to an artifact's zip file, which GitHub serves from another URL."""
    _artifact(call)
    url = f"{call.repo.server}/_artifact/{call.repo.name}/{call.path['artifact_id']}"
    return Response(status_code=302, headers={"Location": url})


def content(call: Call) -> Response:
    """Answer with the zip file of an artifact. Only the stand-in has this path."""
    return Response(_artifact(call).read_bytes(), media_type="application/zip")


def _artifact(call: Call) -> Path:
    for run in call.of("runs"):
        for path in call.runner.artifacts(run):
            if shapes.number(f"{run['id']}/{path.stem}") == call.path["artifact_id"]:
                return path
    raise HTTPException(404, "Not Found")


def schedule(call: Call) -> dict[str, Any]:
    """Start a workflow as its timer would, and answer with the run. Only the stand-in has this path."""
    started = triggers.scheduled(call.runner, call.repo, call.path["workflow_id"])
    return shapes.run(call.repo, started)
