"""The stand-in's bare Git repositories, and the Git operations that it needs."""

import subprocess
import threading
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from loop.core.files import whole
from loop.core.git import Git, GitError

ZERO = "0" * 40
EMPTY = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"  # the id of the empty tree
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
    server: str = ""  # the stand-in's URL

    @property
    def owner(self) -> str:
        return self.name.partition("/")[0]

    @property
    def page(self) -> str:
        """The URL of the repository's web page."""
        return f"{self.server}/{self.name}"

    @property
    def api(self) -> str:
        """The URL below which the calls about the repository are."""
        return f"{self.server}/repos/{self.name}"

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

    def other(self, name: str) -> "Repository":
        """Return another repository of the stand-in, or this one by its own name."""
        return replace(self, root=self.root.parents[1] / f"{name}.git", name=name)

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

    def changed(self, *commits: str) -> list[str]:
        """Return the paths that differ between two commits, or in a range of commits."""
        return self.run("diff", "--name-only", "--no-renames", *commits).splitlines()

    def start(self, before: str, after: str) -> str | None:
        """Return the commit at which a push starts: for a new branch, where it left the default branch."""
        if before != ZERO:
            return before
        default = self.resolve(self.default_branch)
        return self.fork_point(default, after) if default and default != after else None

    def commits(self, start: str | None, after: str) -> list[dict[str, object]]:
        """Return a push's commits for its event, oldest first, at most MOST, each with its changed paths."""
        reach = f"{start}..{after}" if start else after
        found = self.run("rev-list", "--reverse", f"--max-count={MOST}", reach).splitlines()
        return [self.pushed_facts(commit) for commit in found]

    def pushed_facts(self, commit: str) -> dict[str, object]:
        """Return a commit as a push event describes it, with the paths that differ from its first parent."""
        options = ("--no-commit-id", "--name-status", "--no-renames", "-r", "-m", "--first-parent", "--root")
        touched: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
        page = f"{self.page}/commit/{commit}"
        fields = self.run("diff-tree", *options, "-z", commit).split("\0")
        for how, path in zip(fields[::2], fields[1::2], strict=False):
            touched[{"A": "added", "D": "removed"}.get(how, "modified")].append(path)
        return {**self.commit_facts(commit), **touched, "distinct": True, "url": page}

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

    def message(self, commit: str) -> str:
        """Return a commit's message."""
        return str(self.commit_facts(commit)["message"])

    def merged_tree(self, base: str, head: str) -> str | None:
        """Return the tree of `head` merged into `base`; None if they conflict."""
        try:
            return self.run("merge-tree", "--write-tree", base, head)
        except GitError:
            return None

    def written(self, tree: str, parents: list[str], message: str, author: str) -> str:
        """Write a commit as GitHub's web interface does: GitHub is the committer, and `author` the author."""
        env = {"GIT_AUTHOR_NAME": author, "GIT_AUTHOR_EMAIL": f"{author}@users.noreply.github.com"}
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
    """All repositories of the stand-in, as folders below `root`; `url` is the stand-in's."""

    def __init__(self, root: Path, url: str) -> None:
        self.root, self.url = root, url
        # A lock that is held while refs move, so that each move starts workflows only once
        self.moving = threading.Lock()

    def create(self, name: str) -> None:
        """Create a repository if it does not exist."""
        path = self.root / f"{name}.git"
        if not path.exists():
            with whole(path) as aside:
                subprocess.run(["git", "init", "-q", "--bare", "-b", "main", aside], check=True)
                with (aside / "config").open("a") as config:
                    config.write(CONFIG)

    def known(self, name: str) -> Repository:
        """Return a repository that exists."""
        return Repository(self.root / f"{name}.git", name=name, server=self.url)

    def find(self, name: str) -> Repository | None:
        """Return a repository by owner/name; None if it does not exist."""
        found = self.known(name)
        return found if found.root.is_dir() and found.root.parent.parent == self.root else None
