"""The stand-in's bare Git repositories, and the Git operations that it needs."""

import subprocess
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from loop.core.git import Git, GitError

ZERO = "0" * 40
MOST = 20  # the number of commits that a push event lists at most

# refs/pull and the merge queue's branches may be fetched but not pushed, as at GitHub. Garbage collection is
# off, because the clones of runs share these repositories' objects.
CONFIG = """
[http]
	receivepack = true
[receive]
	hideRefs = refs/pull
	hideRefs = refs/heads/gh-readonly-queue
[uploadpack]
	allowAnySHA1InWant = true
	allowFilter = true
[gc]
	auto = 0
"""
Refs = dict[str, str]  # {branch or tag: commit}


@dataclass(frozen=True)
class Repository(Git):
    """A bare repository, whose folder is `root`; `name` has the form owner/name."""

    name: str = ""

    @property
    def default_branch(self) -> str:
        """The branch that HEAD names."""
        return (self.root / "HEAD").read_text().removeprefix("ref: refs/heads/").strip()

    def refs(self) -> Refs:
        """Return the repository's branches and tags."""
        lines = self.run("for-each-ref", "--format=%(refname) %(objectname)", "refs/heads", "refs/tags")
        return dict(line.split() for line in lines.splitlines())

    def resolve(self, ref: str) -> str | None:
        """Return the commit of a branch, tag, full ref or SHA; None if the repository has none."""
        ask = ("rev-parse", "--verify", "--quiet")
        names = (f"refs/heads/{ref}", f"refs/tags/{ref}", ref)
        found = (self.run(*ask, f"{name}^{{commit}}", fine=(0, 1, 128)) for name in names)
        return next(filter(None, found), None)

    def borrow(self, other: "Repository", commit: str) -> None:
        """Fetch a commit from another repository: a pull request from a fork needs the fork's commits."""
        if other.root != self.root:
            self.run("fetch", "--quiet", str(other.root), commit)

    @cache  # noqa: B019 - a commit never changes, and the server has few repositories
    def workflows(self, commit: str) -> dict[str, str]:
        """Return the workflow files at a commit as {file name: text}."""
        folder = ".github/workflows/"
        paths = self.run("ls-tree", "--name-only", commit, folder).splitlines()
        files = [path for path in paths if path.endswith((".yml", ".yaml"))]
        return {path.removeprefix(folder): self.run("show", f"{commit}:{path}") for path in files}

    def changed(self, before: str, after: str) -> list[str]:
        """Return the paths that differ between two commits. `before` is ZERO for a new branch."""
        if before == ZERO:
            before = self._fork_point(after)
        return self.run("diff", "--name-only", "--no-renames", before, after).splitlines()

    def changed_since_fork(self, base: str, head: str) -> list[str]:
        """Return the paths that a pull request changes, compared with the commit where it left its base."""
        return self.run("diff", "--name-only", "--no-renames", f"{base}...{head}").splitlines()

    def commits(self, before: str, after: str) -> list[dict[str, object]]:
        """Return a push's commits for its event, oldest first, at most MOST, each with its changed paths."""
        start = self._fork_point(after) if before == ZERO else before
        reach = [after] if self.run("cat-file", "-t", start) == "tree" else [f"{start}..{after}"]
        found = self.run("rev-list", "--reverse", f"--max-count={MOST}", *reach).splitlines()
        return [self.pushed_facts(commit) for commit in found]

    def pushed_facts(self, commit: str) -> dict[str, object]:
        """Return a commit as a push event describes it, with the paths that differ from its first parent."""
        options = ("--no-commit-id", "--name-status", "--no-renames", "-r", "-m", "--first-parent", "--root")
        touched: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
        fields = self.run("diff-tree", *options, "-z", commit).split("\0")
        for how, path in zip(fields[::2], fields[1::2], strict=False):
            touched[{"A": "added", "D": "removed"}.get(how, "modified")].append(path)
        return {**self.commit_facts(commit), **touched}

    def _fork_point(self, commit: str) -> str:
        default, empty = self.resolve(self.default_branch), self.run("hash-object", "-t", "tree", "/dev/null")
        if default is None or default == commit:
            return empty
        return self.fork_point(default, commit) or empty  # empty if they share no history

    @cache  # noqa: B019 - a commit never changes, and the server has few repositories
    def commit_facts(self, commit: str) -> dict[str, object]:
        """Return a commit in the form that GitHub's push event uses, without its changed paths."""
        form = "%H%x00%T%x00%cI%x00%an%x00%ae%x00%cn%x00%ce%x00%B"
        sha, tree, time, *people, message = self.run("show", "-s", f"--format={form}", commit).split("\0")
        return {
            "id": sha,
            "tree_id": tree,
            "message": message.strip(),
            "timestamp": time,
            "author": {"name": people[0], "email": people[1]},
            "committer": {"name": people[2], "email": people[3]},
        }

    def merged_tree(self, base: str, head: str) -> str | None:
        """Return the tree of `head` merged into `base`; None if they conflict."""
        try:
            return self.run("merge-tree", "--write-tree", base, head)
        except GitError:
            return None

    def written(self, tree: str, parents: list[str], message: str, author: str) -> str:
        """Write a commit as GitHub's web interface does: GitHub is the committer, and `author` the author."""
        ids = {"github-actions[bot]": 41898282}
        own = f"{ids.get(author, 1)}+{author}@users.noreply.github.com"
        email = "noreply@github.com" if author == "GitHub" else own
        env = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": email}
        env |= {"GIT_COMMITTER_NAME": "GitHub", "GIT_COMMITTER_EMAIL": "noreply@github.com"}
        options = [word for parent in parents for word in ("-p", parent)]
        return self.run("commit-tree", tree, *options, "-m", message, env=env)

    def rebased(self, base: str, head: str, committer: str) -> str | None:
        """Rebase the commits of `head` that `base` lacks onto `base`; None if they conflict."""
        email = f"{committer}@users.noreply.github.com"
        env = {"GIT_COMMITTER_NAME": committer, "GIT_COMMITTER_EMAIL": email}
        with self.worktree(head) as folder:
            try:
                Git(folder).run("rebase", "-q", "--force-rebase", base, env=env)
                return Git(folder).head()
            except GitError:
                return None

    def move(self, ref: str, new: str, old: str | None = None) -> None:
        """Point a ref at a commit; if `old` is given, only if the ref still points at `old`."""
        self.run("update-ref", ref, new, *([old] if old else []))


class Hosting:
    """All repositories of the stand-in, as folders below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        # A lock that is held while refs move, so that each move starts workflows only once
        self.moving = threading.Lock()

    def create(self, name: str) -> None:
        """Create a repository if it does not exist."""
        path = self.root / f"{name}.git"
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)
        with (path / "config").open("a") as config:
            config.write(CONFIG)

    def find(self, name: str) -> Repository | None:
        """Return a repository by owner/name; None if it does not exist."""
        path = self.root / f"{name}.git"
        return Repository(path, name=name) if path.is_dir() and path.parent.parent == self.root else None

    def known(self, name: str) -> Repository:
        """Return a repository that must exist, such as a run's; LookupError otherwise."""
        if found := self.find(name):
            return found
        raise LookupError(f"{self.root} has no repository {name}")
