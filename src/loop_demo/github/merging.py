"""Writes the commits with which a pull request is merged: by merge, squash or rebase."""

from typing import Any

from loop_demo.github.hosting import Repository
from loop_demo.github.state import Record

METHODS = ("merge", "squash", "rebase")


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
    return repo.commit(tree, parents, message.strip() + "\n", login)


def _words(repo: Repository, pull: Record, method: str, base: str) -> tuple[str, str]:
    """Return GitHub's default title and text of a merge; a squash of one commit keeps its message."""
    number, title = pull["number"], pull["title"]
    if method == "merge":
        owner = pull["head_repository"].split("/")[0]
        return f"Merge pull request #{number} from {owner}/{pull['head_ref']}", title
    commits = repo.git("rev-list", "--reverse", f"{base}..{pull['head_sha']}").splitlines()
    messages = [str(repo.commit_facts(commit)["message"]) for commit in commits]
    if len(messages) == 1:
        title, _, text = messages[0].partition("\n")
        return f"{title} (#{number})", text.strip()
    return f"{title} (#{number})", "\n\n".join(f"* {message}" for message in messages)
