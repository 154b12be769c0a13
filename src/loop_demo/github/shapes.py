"""Builds GitHub's JSON objects from the stand-in's records.

GitHub's description requires most fields, so each kind of object is built in one place.
"""

from pathlib import Path
from typing import Any
from zlib import crc32

from loop_demo.github.hosting import Repository
from loop_demo.github.runs import Runner
from loop_demo.github.state import Record

LOGINS = {"person": "person", "bot": "github-actions[bot]", "stranger": "mallory"}
BOT_ID = 41898282  # the id of GitHub's bot for Actions, which its e-mail address contains
BORN = "2026-01-01T00:00:00Z"  # the creation time that every account and repository shows

# The fields whose names end in _url, and their paths below an account's and a repository's own URL
USER_URLS = """
followers followers                       following following{/other_user}
gists gists{/gist_id}                     starred starred{/owner}{/repo}
subscriptions subscriptions               organizations orgs
repos repos                               events events{/privacy}
received_events received_events
"""
REPOSITORY_URLS = """
archive {archive_format}{/ref}            assignees assignees{/user}
blobs git/blobs{/sha}                     branches branches{/branch}
collaborators collaborators{/collaborator}
comments comments{/number}                commits commits{/sha}
compare compare/{base}...{head}           contents contents/{+path}
contributors contributors                 deployments deployments
downloads downloads                       events events
forks forks                               git_commits git/commits{/sha}
git_refs git/refs{/sha}                   git_tags git/tags{/sha}
hooks hooks                               issue_comment issues/comments{/number}
issue_events issues/events{/number}       issues issues{/number}
keys keys{/key_id}                        labels labels{/name}
languages languages                       merges merges
milestones milestones{/number}            pulls pulls{/number}
notifications notifications{?since,all,participating}
releases releases{/id}                    stargazers stargazers
statuses statuses/{sha}                   subscribers subscribers
subscription subscription                 tags tags
teams teams                               trees git/trees{/sha}
"""


def number(name: str) -> int:
    """Return the id of an account, repository or workflow, which is always the same for a name."""
    return crc32(name.encode())


def _urls(base: str, table: str) -> dict[str, str]:
    words = table.split()
    return {f"{name}_url": f"{base}/{path}" for name, path in zip(words[::2], words[1::2], strict=True)}


def user(runner: Runner, login: str) -> dict[str, Any]:
    """Return GitHub's JSON object for an account."""
    bot = login.endswith("[bot]")
    known = BOT_ID if bot else number(login)
    name = number(login) if bot else login
    return {
        "login": login,
        "id": known,
        "node_id": f"U_{known}",
        "type": "Bot" if bot else "User",
        "site_admin": False,
        "gravatar_id": "",
        "avatar_url": f"{runner.url}/avatars/u/{known}",
        "url": f"{runner.url}/users/{name}",
        "html_url": f"{runner.url}/{name}",
        **_urls(f"{runner.url}/users/{name}", USER_URLS),
    }


def repository(runner: Runner, repo: Repository, *, fork: bool = False) -> dict[str, Any]:
    """Return GitHub's JSON object for a repository."""
    owner, _, name = repo.name.partition("/")
    page, known = f"{runner.url}/{repo.name}", number(repo.name)
    counts = ("forks", "forks_count", "open_issues", "open_issues_count", "stargazers_count", "size")
    watchers = ("watchers", "watchers_count")
    offered = ("has_issues", "has_projects", "has_wiki", "has_pages", "has_discussions", "has_downloads")
    absent = ("description", "homepage", "language", "license", "mirror_url")
    return {
        "id": known,
        "node_id": f"R_{known}",
        "name": name,
        "full_name": repo.name,
        "owner": user(runner, owner),
        "private": False,
        "visibility": "public",
        "fork": fork,
        "default_branch": repo.default_branch,
        **dict.fromkeys(("html_url", "svn_url"), page),
        **dict.fromkeys(("clone_url", "git_url", "ssh_url"), f"{page}.git"),
        "url": f"{runner.url}/repos/{repo.name}",
        "topics": [],
        "archived": False,
        "disabled": False,
        **dict.fromkeys(("created_at", "updated_at", "pushed_at"), BORN),
        **dict.fromkeys(counts + watchers, 0),
        **dict.fromkeys(offered, False),
        **dict.fromkeys(absent),
        **_urls(f"{runner.url}/repos/{repo.name}", REPOSITORY_URLS),
    }


def pushed_commit(page: str, facts: dict[str, object]) -> dict[str, object]:
    """Return GitHub's JSON object for a commit in a push event."""
    return {**facts, "distinct": True, "url": f"{page}/commit/{facts['id']}"}


def run(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a workflow run. In a fork's run, `head_repository` is the fork."""
    source = runner.hosting.find(record["head_repository"]) or repo
    api, workflow = f"{runner.url}/repos/{repo.name}", number(f"{repo.name}/{record['path']}")
    url = f"{api}/actions/runs/{record['id']}"
    shown = ("id", "name", "display_title", "path", "run_number", "event", "status", "conclusion")
    times = ("head_branch", "head_sha", "created_at", "updated_at")
    actor = user(runner, record["actor"]["login"])
    return {
        **{key: record[key] for key in (*shown, *times)},
        "node_id": f"WFR_{record['id']}",
        "run_attempt": 1,
        "run_started_at": record["run_started_at"] or record["created_at"],
        "workflow_id": workflow,
        "check_suite_id": record["id"],
        "check_suite_node_id": f"CS_{record['id']}",
        "actor": actor,
        "triggering_actor": actor,
        "head_commit": repo.commit_facts(record["head_sha"]),
        "repository": repository(runner, repo),
        "head_repository": repository(runner, source, fork=source != repo),
        # GitHub lists no pull requests for a fork's run, and the project does not read this field
        "pull_requests": [],
        "html_url": f"{runner.url}/{repo.name}/actions/runs/{record['id']}",
        "url": url,
        **_urls(url, "jobs jobs logs logs artifacts artifacts cancel cancel rerun rerun"),
        "previous_attempt_url": None,
        "check_suite_url": f"{api}/check-suites/{record['id']}",
        "workflow_url": f"{api}/actions/workflows/{workflow}",
    }


def ended_run(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return a run for the event workflow_run, in which GitHub shows fewer fields of the repositories."""
    shown = run(runner, repo, record)
    kept = {"id", "node_id", "name", "full_name", "owner", "private", "fork"}
    kept |= {"html_url", "url", "description", *_urls("", REPOSITORY_URLS)}
    for side in ("repository", "head_repository"):
        shown[side] = {key: value for key, value in shown[side].items() if key in kept}
    return shown


def artifact(runner: Runner, repo: Repository, run: Record, path: Path) -> dict[str, Any]:
    """Return GitHub's JSON object for an artifact of a run, whose zip file is `path`."""
    known, source = number(f"{run['id']}/{path.stem}"), number(run["head_repository"])
    url = f"{runner.url}/repos/{repo.name}/actions/artifacts/{known}"
    of = {"id": run["id"], "repository_id": number(repo.name), "head_repository_id": source}
    return {
        **{key: run[key] for key in ("created_at", "updated_at")},
        "id": known,
        "node_id": f"MDg6QXJ0_{known}",
        "name": path.stem,
        "size_in_bytes": path.stat().st_size,
        "url": url,
        "archive_download_url": f"{url}/zip",
        "expired": False,
        "expires_at": None,
        "workflow_run": {**of, **{key: run[key] for key in ("head_branch", "head_sha")}},
    }


def workflow(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for the workflow of a run, as the event workflow_run has it."""
    known = number(f"{repo.name}/{record['path']}")
    api, page = f"{runner.url}/repos/{repo.name}", f"{runner.url}/{repo.name}"
    return {
        **{key: record[key] for key in ("name", "path")},
        **dict.fromkeys(("created_at", "updated_at"), BORN),
        "id": known,
        "node_id": f"W_{known}",
        "state": "active",
        "url": f"{api}/actions/workflows/{known}",
        "html_url": f"{page}/blob/{repo.default_branch}/{record['path']}",
        "badge_url": f"{page}/workflows/{record['name']}/badge.svg",
    }


def pull(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a single pull request, which events contain too."""
    base = repo.resolve(f"refs/heads/{record['base_ref']}")
    tree = repo.merged_tree(base, record["head_sha"]) if base and record["state"] == "open" else None
    told = runner.state.of("comments", repository=repo.name, issue=record["number"])
    nothing = dict.fromkeys(("additions", "deletions", "changed_files", "commits"), 0)
    return {
        **pull_in_list(runner, repo, record),
        **(repo.size(base, record["head_sha"]) if base else nothing),
        "merged": record["merged"],
        "merged_by": user(runner, record["merged_by"]) if record["merged_by"] else None,
        "mergeable": tree is not None if record["state"] == "open" else None,
        "mergeable_state": "clean" if tree else "dirty" if record["state"] == "open" else "unknown",
        "rebaseable": None,  # GitHub answers null until it has computed whether a rebase is possible
        "maintainer_can_modify": False,
        "comments": len(told),
        "review_comments": 0,
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
    }
    shown = ("id", "number", "state", "title", "body", "created_at", "updated_at", "closed_at", "merged_at")
    source = runner.hosting.find(record["head_repository"]) or repo
    trial = repo.resolve(f"refs/pull/{record['number']}/merge") if record["state"] == "open" else None
    return {
        **{key: record[key] for key in shown},
        **{f"{name}_url": value for name, value in urls.items()},
        "node_id": f"PR_{record['id']}",
        "url": url,
        "issue_url": issue,
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "_links": {
            name: {"href": href} for name, href in {"self": url, "html": page, "issue": issue, **urls}.items()
        },
        "user": user(runner, record["login"]),
        "head": _side(runner, source, record["head_ref"], record["head_sha"], fork=source != repo),
        "base": _side(runner, repo, record["base_ref"], repo.resolve(record["base_ref"]) or ""),
        "merge_commit_sha": record["merge_commit_sha"] or trial,
        "author_association": "CONTRIBUTOR" if source != repo else "COLLABORATOR",
        "draft": False,
        "locked": False,
        **dict.fromkeys(("assignee", "milestone", "auto_merge", "active_lock_reason")),
        **{name: [] for name in ("labels", "assignees", "requested_reviewers", "requested_teams")},
    }


def _side(runner: Runner, repo: Repository, ref: str, sha: str, *, fork: bool = False) -> dict[str, Any]:
    owner = repo.name.split("/")[0]
    shown = repository(runner, repo, fork=fork)
    return {"label": f"{owner}:{ref}", "ref": ref, "sha": sha, "repo": shown, "user": user(runner, owner)}


def comment(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a comment; `user` is null if the author's account was deleted."""
    api, issue = f"{runner.url}/repos/{repo.name}/issues", record["issue"]
    return {
        **{key: record[key] for key in ("id", "body", "created_at", "updated_at")},
        "node_id": f"IC_{record['id']}",
        "user": user(runner, record["login"]) if record["login"] else None,
        "author_association": "NONE",
        "performed_via_github_app": None,
        "url": f"{api}/comments/{record['id']}",
        "issue_url": f"{api}/{issue}",
        "html_url": f"{runner.url}/{repo.name}/pull/{issue}#issuecomment-{record['id']}",
    }


def status(runner: Runner, repo: Repository, record: Record) -> dict[str, Any]:
    """Return GitHub's JSON object for a commit's status in one context."""
    shown = ("id", "state", "context", "description", "target_url", "created_at", "updated_at")
    creator = user(runner, record["login"])
    return {
        **{key: record[key] for key in shown},
        "node_id": f"SC_{record['id']}",
        "creator": creator,
        "avatar_url": creator["avatar_url"],
        "url": f"{runner.url}/repos/{repo.name}/statuses/{record['sha']}",
    }
