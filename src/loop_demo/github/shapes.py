"""Builds GitHub's JSON objects from the stand-in's records.

Each kind of object is built in one place. Fields that GitHub's description requires and nobody reads are left
out: `contract.completed` adds placeholders for them.
"""

from pathlib import Path
from typing import Any
from zlib import crc32

from loop_demo.github.contract import BORN
from loop_demo.github.hosting import Repository
from loop_demo.github.state import Record

BOT, STRANGER = "github-actions[bot]", "mallory"  # accounts beside `person`
BOT_ID = 41898282  # the id of GitHub's bot for Actions, which its e-mail address contains


def number(name: str) -> int:
    """Return the id of an account, repository or workflow, which is always the same for a name."""
    return crc32(name.encode())


def user(repo: Repository, login: str) -> dict[str, Any]:
    """Return GitHub's JSON object for an account."""
    return {
        "login": login,
        "id": BOT_ID if login == BOT else number(login),
        "type": "Bot" if login == BOT else "User",
        "url": f"{repo.server}/users/{number(login)}",
    }


def minimal_repository(repo: Repository, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's JSON object for the repository of a run, which has few fields."""
    return {
        "id": number(repo.name),
        "name": repo.name.partition("/")[2],
        "full_name": repo.name,
        "owner": user(repo, repo.owner),
        "private": False,
        "fork": fork,
        "url": repo.api,
        "html_url": repo.page,
    }


def repository(repo: Repository, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's JSON object for a repository."""
    return {
        **minimal_repository(repo, fork=fork),
        "visibility": "public",
        "default_branch": repo.default_branch,
        "clone_url": f"{repo.page}.git",
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), BORN),
    }


def run(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a workflow run. In a fork's run, `head_repository` is the fork."""
    source = repo.other(record["head_repository"])
    shown = ("id", "name", "display_title", "path", "run_number", "event", "status", "conclusion")
    times = ("head_branch", "head_sha", "created_at", "updated_at")
    actor = user(repo, record["actor"]["login"])
    return {
        **{key: record[key] for key in (*shown, *times)},
        "run_attempt": 1,
        "run_started_at": record["run_started_at"] or record["created_at"],
        "workflow_id": number(f"{repo.name}/{record['path']}"),
        "actor": actor,
        "triggering_actor": actor,
        "head_commit": repo.commit_facts(record["head_sha"]),
        "repository": minimal_repository(repo),
        "head_repository": minimal_repository(source, fork=source != repo),
        "html_url": f"{repo.page}/actions/runs/{record['id']}",
        "url": f"{repo.api}/actions/runs/{record['id']}",
    }


def artifact(repo: Repository, run: Record, path: Path) -> dict[str, Any]:
    """Return GitHub's JSON object for an artifact of a run, whose zip file is `path`."""
    known = number(f"{run['id']}/{path.stem}")
    url = f"{repo.api}/actions/artifacts/{known}"
    return {
        **{key: run[key] for key in ("created_at", "updated_at")},
        "id": known,
        "name": path.stem,
        "size_in_bytes": path.stat().st_size,
        "url": url,
        "archive_download_url": f"{url}/zip",
    }


def workflow(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for the workflow of a run, as the event workflow_run has it."""
    known = number(f"{repo.name}/{record['path']}")
    shown = {key: record[key] for key in ("name", "path")}
    return {**shown, "id": known, "state": "active", "url": f"{repo.api}/actions/workflows/{known}"}


def pull(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a single pull request, which events contain too."""
    base = repo.resolve(f"refs/heads/{record['base_ref']}")
    tree = repo.merged_tree(base, record["head_sha"]) if base and record["state"] == "open" else None
    return {
        **pull_in_list(repo, record),
        "merged": record["merged"],
        "merged_by": user(repo, record["merged_by"]) if record["merged_by"] else None,
        "mergeable": tree is not None if record["state"] == "open" else None,
        "mergeable_state": "clean" if tree else "dirty" if record["state"] == "open" else "unknown",
    }


def pull_in_list(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a pull request in a list, which has fewer fields."""
    shown = ("id", "number", "state", "title", "body", "created_at", "updated_at", "closed_at", "merged_at")
    source = repo.other(record["head_repository"])
    trial = repo.resolve(f"refs/pull/{record['number']}/merge") if record["state"] == "open" else None
    return {
        **{key: record[key] for key in shown},
        "url": f"{repo.api}/pulls/{record['number']}",
        "html_url": f"{repo.page}/pull/{record['number']}",
        "user": user(repo, record["login"]),
        "head": _side(source, record["head_ref"], record["head_sha"], fork=source != repo),
        "base": _side(repo, record["base_ref"], repo.resolve(record["base_ref"]) or ""),
        "merge_commit_sha": record["merge_commit_sha"] or trial,
        "author_association": "CONTRIBUTOR" if source != repo else "COLLABORATOR",
        "draft": False,
    }


def _side(repo: Repository, ref: str, sha: str, *, fork: bool = False) -> dict[str, Any]:
    shown, owner = repository(repo, fork=fork), user(repo, repo.owner)
    return {"label": f"{repo.owner}:{ref}", "ref": ref, "sha": sha, "repo": shown, "user": owner}


def comment(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a comment."""
    return {
        **{key: record[key] for key in ("id", "body", "created_at", "updated_at")},
        "user": user(repo, record["login"]),
        "author_association": "NONE",
        "url": f"{repo.api}/issues/comments/{record['id']}",
        "html_url": f"{repo.page}/pull/{record['issue']}#issuecomment-{record['id']}",
    }


def status(repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a commit's status in one context."""
    shown = ("id", "state", "context", "description", "target_url", "created_at", "updated_at")
    return {
        **{key: record[key] for key in shown},
        "creator": user(repo, record["login"]),
        "url": f"{repo.api}/statuses/{record['sha']}",
    }
