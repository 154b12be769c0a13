"""Builds GitHub's JSON objects from the stand-in's records.

Each kind of object is built in one place. Fields that GitHub's description requires and nobody reads are left
out: `contract.completed` adds placeholders for them.
"""

from pathlib import Path
from typing import Any
from zlib import crc32

from loop_demo.github.contract import BORN
from loop_demo.github.hosting import Repository
from loop_demo.github.runs import Runner
from loop_demo.github.state import Record

LOGINS = {"person": "person", "bot": "github-actions[bot]", "stranger": "mallory"}
BOT_ID = 41898282  # the id of GitHub's bot for Actions, which its e-mail address contains


def number(name: str) -> int:
    """Return the id of an account, repository or workflow, which is always the same for a name."""
    return crc32(name.encode())


def user(runner: Runner, login: str) -> dict[str, Any]:
    """Return GitHub's JSON object for an account."""
    bot = login.endswith("[bot]")
    name = number(login) if bot else login
    return {
        "login": login,
        "id": BOT_ID if bot else number(login),
        "type": "Bot" if bot else "User",
        "url": f"{runner.url}/users/{name}",
        "html_url": f"{runner.url}/{name}",
    }


def minimal_repository(runner: Runner, repo: Repository, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's JSON object for the repository of a run, which has few fields."""
    owner, _, name = repo.name.partition("/")
    return {
        "id": number(repo.name),
        "name": name,
        "full_name": repo.name,
        "owner": user(runner, owner),
        "private": False,
        "fork": fork,
        "url": f"{runner.url}/repos/{repo.name}",
        "html_url": f"{runner.url}/{repo.name}",
    }


def repository(runner: Runner, repo: Repository, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's JSON object for a repository."""
    return {
        **minimal_repository(runner, repo, fork=fork),
        "visibility": "public",
        "default_branch": repo.default_branch,
        **dict.fromkeys(("clone_url", "git_url", "ssh_url"), f"{runner.url}/{repo.name}.git"),
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), BORN),
    }


def pushed_commit(page: str, facts: dict[str, object]) -> dict[str, object]:
    """Return GitHub's JSON object for a commit in a push event."""
    return {**facts, "distinct": True, "url": f"{page}/commit/{facts['id']}"}


def run(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a workflow run. In a fork's run, `head_repository` is the fork."""
    source = runner.hosting.find(record["head_repository"]) or repo
    api, workflow = f"{runner.url}/repos/{repo.name}", number(f"{repo.name}/{record['path']}")
    shown = ("id", "name", "display_title", "path", "run_number", "event", "status", "conclusion")
    times = ("head_branch", "head_sha", "created_at", "updated_at")
    actor = user(runner, record["actor"]["login"])
    return {
        **{key: record[key] for key in (*shown, *times)},
        "run_attempt": 1,
        "run_started_at": record["run_started_at"] or record["created_at"],
        "workflow_id": workflow,
        "actor": actor,
        "triggering_actor": actor,
        "head_commit": repo.commit_facts(record["head_sha"]),
        "repository": minimal_repository(runner, repo),
        "head_repository": minimal_repository(runner, source, fork=source != repo),
        "html_url": f"{runner.url}/{repo.name}/actions/runs/{record['id']}",
        "url": f"{api}/actions/runs/{record['id']}",
        "workflow_url": f"{api}/actions/workflows/{workflow}",
    }


def artifact(runner: Runner, repo: Repository, run: Record, path: Path) -> dict[str, Any]:
    """Return GitHub's JSON object for an artifact of a run, whose zip file is `path`."""
    known = number(f"{run['id']}/{path.stem}")
    url = f"{runner.url}/repos/{repo.name}/actions/artifacts/{known}"
    return {
        **{key: run[key] for key in ("created_at", "updated_at")},
        "id": known,
        "name": path.stem,
        "size_in_bytes": path.stat().st_size,
        "url": url,
        "archive_download_url": f"{url}/zip",
    }


def workflow(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for the workflow of a run, as the event workflow_run has it."""
    known = number(f"{repo.name}/{record['path']}")
    return {
        **{key: record[key] for key in ("name", "path")},
        "id": known,
        "state": "active",
        "url": f"{runner.url}/repos/{repo.name}/actions/workflows/{known}",
        "html_url": f"{runner.url}/{repo.name}/blob/{repo.default_branch}/{record['path']}",
    }


def pull(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a single pull request, which events contain too."""
    base = repo.resolve(f"refs/heads/{record['base_ref']}")
    tree = repo.merged_tree(base, record["head_sha"]) if base and record["state"] == "open" else None
    return {
        **pull_in_list(runner, repo, record),
        "merged": record["merged"],
        "merged_by": user(runner, record["merged_by"]) if record["merged_by"] else None,
        "mergeable": tree is not None if record["state"] == "open" else None,
        "mergeable_state": "clean" if tree else "dirty" if record["state"] == "open" else "unknown",
        "comments": len(runner.state.of("comments", repository=repo.name, issue=record["number"])),
    }


def pull_in_list(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a pull request in a list, which has fewer fields."""
    api, page = f"{runner.url}/repos/{repo.name}", f"{runner.url}/{repo.name}/pull/{record['number']}"
    url, issue = f"{api}/pulls/{record['number']}", f"{api}/issues/{record['number']}"
    urls = {
        "commits": f"{url}/commits",
        "review_comments": f"{url}/comments",
        "review_comment": f"{api}/pulls/comments{{/number}}",
        "comments": f"{issue}/comments",
        "statuses": f"{api}/statuses/{record['head_sha']}",
        "issue": issue,
        "html": page,
    }
    shown = ("id", "number", "state", "title", "body", "created_at", "updated_at", "closed_at", "merged_at")
    source = runner.hosting.find(record["head_repository"]) or repo
    trial = repo.resolve(f"refs/pull/{record['number']}/merge") if record["state"] == "open" else None
    return {
        **{key: record[key] for key in shown},
        **{f"{name}_url": value for name, value in urls.items()},
        "url": url,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "_links": {name: {"href": href} for name, href in {"self": url, **urls}.items()},
        "user": user(runner, record["login"]),
        "head": _side(runner, source, record["head_ref"], record["head_sha"], fork=source != repo),
        "base": _side(runner, repo, record["base_ref"], repo.resolve(record["base_ref"]) or ""),
        "merge_commit_sha": record["merge_commit_sha"] or trial,
        "author_association": "CONTRIBUTOR" if source != repo else "COLLABORATOR",
        "draft": False,
    }


def _side(runner: Runner, repo: Repository, ref: str, sha: str, *, fork: bool = False) -> dict[str, Any]:
    owner = repo.name.split("/")[0]
    shown = repository(runner, repo, fork=fork)
    return {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "repo": shown, "user": user(runner, owner)}


def comment(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a comment."""
    api, issue = f"{runner.url}/repos/{repo.name}/issues", record["issue"]
    return {
        **{key: record[key] for key in ("id", "body", "created_at", "updated_at")},
        "user": user(runner, record["login"]),
        "author_association": "NONE",
        "url": f"{api}/comments/{record['id']}",
        "issue_url": f"{api}/{issue}",
        "html_url": f"{runner.url}/{repo.name}/pull/{issue}#issuecomment-{record['id']}",
    }


def status(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a commit's status in one context."""
    shown = ("id", "state", "context", "description", "target_url", "created_at", "updated_at")
    return {
        **{key: record[key] for key in shown},
        "creator": user(runner, record["login"]),
        "url": f"{runner.url}/repos/{repo.name}/statuses/{record['sha']}",
    }
