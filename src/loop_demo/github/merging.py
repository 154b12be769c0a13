"""Merges pull requests: writes the merge commits, and checks them first where a merge queue is required.

The queue checks one pull request at a time, on a branch of its own, as a queue whose groups have one entry.
It moves on when a run ends.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_demo.github import events, triggers
from loop_demo.github.hosting import Repository
from loop_demo.github.runs import Runner
from loop_demo.github.state import Record

METHODS = ("merge", "squash", "rebase")
REQUIRED = "Everything required has passed"  # the last job of this project's CI, which the queue requires


@dataclass
class Queue:
    """The merge queues of all repositories."""

    runner: Runner
    method: str | None  # how the queue merges; None if repositories have no queue

    def add(self, pull: Record, who: str) -> None:
        """Add a pull request to the end of its base branch's queue."""
        kept = {key: pull[key] for key in ("repository", "number", "head_sha", "base_ref")}
        checks: Record = {"branch": "", "queue_sha": "", "base_sha": "", "runs": []}
        self.runner.state.add("queue", **kept, **checks, who=who, reason=None)
        self.advance()

    def advance(self) -> None:
        """Handle the first entry of each queue, until it waits for its checks."""
        waiting = set()
        with self.runner.hosting.moving:
            for entry in self.runner.state.of("queue", reason=None):
                place = (entry["repository"], entry["base_ref"])
                if place in waiting:
                    continue
                repo = self.runner.hosting.known(entry["repository"])
                if reason := self._step(repo, entry):
                    self._drop_branch(repo, entry)
                    self.runner.state.update(entry, reason=reason)
                else:
                    waiting.add(place)

    def _step(self, repo: Repository, entry: Record) -> str | None:
        """Begin an entry's checks, or merge it if they have succeeded; return why it leaves the queue."""
        [pull] = self.runner.state.of("pulls", repository=repo.name, number=entry["number"])
        if pull["state"] == "closed" or any(pull[key] != entry[key] for key in ("base_ref", "head_sha")):
            return "it was closed, merged or pushed to, or its base was changed"
        before, ref = repo.refs(), f"refs/heads/{entry['base_ref']}"
        if not entry["runs"] or before[ref] != entry["base_sha"]:  # a base that moved needs another check
            return self._begin(repo, entry, pull)
        ends = {run["conclusion"] for run in self.runner.state.of("runs") if run["id"] in entry["runs"]}
        if ends - {None, "success"}:
            return f"'{REQUIRED}' failed"
        if None in ends:
            return None
        repo.move(ref, entry["queue_sha"], entry["base_sha"])
        triggers.closed(self.runner, repo, pull, entry["who"], merged=entry["queue_sha"])
        triggers.pushed(self.runner, repo, before, entry["who"])
        return "merged"

    def _begin(self, repo: Repository, entry: Record, pull: Record) -> str | None:
        """Create the branch with the merge, and request its checks; return why that is not possible."""
        self._drop_branch(repo, entry)
        before = repo.refs()
        base = before[f"refs/heads/{entry['base_ref']}"]
        sha = write(repo, pull, str(self.method), base=base, login=entry["who"], given={})
        if sha is None:
            return "it does not merge into its base"
        branch = f"gh-readonly-queue/{entry['base_ref']}/pr-{entry['number']}-{base}"
        repo.move(f"refs/heads/{branch}", sha)
        self.runner.state.update(entry, branch=branch, queue_sha=sha, base_sha=base, runs=[])
        triggers.pushed(self.runner, repo, before, entry["who"])
        files = repo.workflows(sha)
        deciding = [
            run["id"]
            for run in triggers.checks_requested(self.runner, repo, entry)
            if events.has_job(events.parse(files[Path(run["path"]).name]), REQUIRED)
        ]
        self.runner.state.update(entry, runs=deciding)
        return None if deciding else f"no workflow with a job '{REQUIRED}' listens to merge_group"

    def _drop_branch(self, repo: Repository, entry: Record) -> None:
        before = repo.refs()
        if (branch := f"refs/heads/{entry['branch']}") in before:
            repo.run("update-ref", "-d", branch)
            triggers.pushed(self.runner, repo, before, entry["who"])


def write(
    repo: Repository, pull: Record, method: str, *, base: str, login: str, given: dict[str, Any]
) -> str | None:
    """Write a pull request's commits on top of `base` and return the last one; None if they conflict.

    No ref is moved. `given` may have `commit_title` and `commit_message`; a rebase keeps the commits'
    messages.
    """
    if method == "rebase":
        return repo.rebased(base, pull["head_sha"], login)
    tree = repo.merged_tree(base, pull["head_sha"])
    if tree is None:
        return None
    subject, text = _words(repo, pull, method, base)
    message = f"{given.get('commit_title', subject)}\n\n{given.get('commit_message', text)}"
    parents = [base] if method == "squash" else [base, pull["head_sha"]]
    return repo.written(tree, parents, message.strip() + "\n", login)


def _words(repo: Repository, pull: Record, method: str, base: str) -> tuple[str, str]:
    """Return GitHub's default title and text of a merge; a squash of one commit keeps its message."""
    number, title = pull["number"], pull["title"]
    if method == "merge":
        owner = pull["head_repository"].partition("/")[0]
        return f"Merge pull request #{number} from {owner}/{pull['head_ref']}", title
    commits = repo.run("rev-list", "--reverse", f"{base}..{pull['head_sha']}").splitlines()
    messages = [repo.message(commit) for commit in commits]
    if len(messages) == 1:
        title, _, text = messages[0].partition("\n")
        return f"{title} (#{number})", text.strip()
    return f"{title} (#{number})", "\n\n".join(f"* {message}" for message in messages)
