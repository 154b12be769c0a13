"""Runs git. Commands commit on top of the remote branch by compare-and-swap, without a work tree."""

import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loop.core.errors import LoopError

# The identity of GitHub's bot for Actions. Any other `…@users.noreply.github.com` address belongs to a
# person's account.
_BOT = {"NAME": "github-actions[bot]", "EMAIL": "41898282+github-actions[bot]@users.noreply.github.com"}
BOT = {f"GIT_{who}_{key}": value for who in ("AUTHOR", "COMMITTER") for key, value in _BOT.items()}
# Git sets these variables for its hooks, to name the repository that a hook runs for. They are removed,
# because a git that inherits them would use that repository instead of the one in its working directory.
HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
PLAIN = {  # git settings that override those in a user's configuration, which could
    "log.follow": "false",  # make `git log` accept only one path
    "log.showSignature": "false",  # print signature checks between the lines of a log
    "push.followTags": "false",  # push the user's tags together with the commit
    "safe.bareRepository": "all",  # forbid the temporary bare repository that `bare` creates
}
Env = Mapping[str, str] | None  # environment variables beside those of this process
# git commands that give wrong answers in a shallow clone, because it lacks history
HISTORY = ("log", "merge-base", "rev-list")
ATTEMPTS = 30  # of a commit on top of a branch to which others push
RACED = (
    "non-fast-forward",
    "fetch first",
    "cannot lock ref",
    "failed to update ref",
    "incorrect old value",
    "reference already exists",
    "stale info",
)


class GitError(LoopError):
    """git failed; the message is git's own output."""


class PushRaced(GitError):
    """The remote branch moved between fetch and push."""


@dataclass(frozen=True)
class Change:
    """The content of a commit: files to write {path: text, or None to delete the file}, and the message."""

    files: Mapping[str, str | None]
    message: str


@dataclass(frozen=True)
class Git:
    """A clone. No method changes files in the work tree."""

    root: Path
    settings: Callable[[], Mapping[str, str]] = dict  # returns environment variables for each git command
    seconds: float | None = None  # time limit of a command

    def run(self, *args: str, stdin: str | None = None, env: Env = None, fine: Container[int] = (0,)) -> str:
        """Return git's output without the last newline. Raises GitError if the exit code is not in `fine`."""
        given = None if stdin is None else stdin.encode()
        return _decoded(self._bytes(*args, stdin=given, env=env, fine=fine)).removesuffix("\n")

    def _bytes(
        self, *args: str, stdin: bytes | None = None, env: Env = None, fine: Container[int] = (0,)
    ) -> bytes:
        """Run git in this clone and return its output as bytes."""
        if args[0] in HISTORY:
            self.deepen()
        own = {name: value for name, value in os.environ.items() if name not in HOOK}
        plain = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        settings = [word for name, value in PLAIN.items() for word in ("-c", f"{name}={value}")]
        try:
            done = subprocess.run(
                ["git", *settings, *args],
                cwd=self.root,
                input=stdin,
                env={**own, **plain, **self.settings(), **(env or {})},
                capture_output=True,
                check=False,
                timeout=self.seconds,
            )
        except subprocess.TimeoutExpired as error:
            raise GitError(f"git {' '.join(args)}: took over {self.seconds:g} s") from error
        if done.returncode not in fine:
            said = (done.stderr + done.stdout).decode(errors="replace")
            fix = "git remote add origin URL" if "'origin' does not appear" in said else ""
            raise GitError(f"git {' '.join(args)}: {said.strip()}", fix=fix)
        return done.stdout

    def head(self) -> str:
        """Return the id of the commit that is checked out."""
        return self.run("rev-parse", "HEAD")

    def deepen(self) -> bool:
        """Fetch the history that a shallow clone lacks; returns whether the clone was shallow."""
        if self.run("rev-parse", "--is-shallow-repository") != "true":
            return False
        try:
            self.run(
                "fetch", "--quiet", "--unshallow", "--no-write-fetch-head", "--refmap=", "origin", "HEAD"
            )
        except GitError as error:
            fix = "check out with `fetch-depth: 0`, or `git fetch --unshallow`"
            raise GitError(f"{self.root} is a shallow clone without the history: {error}", fix=fix) from error
        return True

    def commit(self, name: str) -> str | None:
        """Return the full id of the commit that a branch, tag or short id names; None if it is unknown."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitError:
            return self.commit(name) if self.deepen() else None

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or descends from it; False if the clone lacks `ancestor`."""
        known = self.commit(ancestor)
        return known is not None and not self.run("rev-list", "--max-count=1", known, f"^{commit}")

    def fork_point(self, base: str, head: str) -> str | None:
        """Return the newest common ancestor of `base` and `head`; None without an ancestor or a known `base`.

        A base is unknown after a forced push; for a new branch, GitHub's event names only zeros or nothing.
        """
        if not (known := self.commit(base)):
            return None
        # git ends with 1 without an ancestor, and with 128 if `head` is unknown
        return self.run("merge-base", known, head, fine=(0, 1, 128)) or None

    def listed(self, branch: str) -> str:
        """Return the id of the commit that origin's branch points to; empty if origin lacks the branch."""
        ref = f"refs/heads/{branch}"
        lines = (line.split("\t") for line in self.run("ls-remote", "origin", ref).splitlines())
        # git matches names by their end, so for `refs/heads/main` it also lists `x/refs/heads/main`
        return next((commit for commit, name in lines if name == ref), "")

    def tip(self, branch: str = "main") -> str:
        """Return the id of the commit that origin's branch points to. Raises GitError if origin lacks it."""
        if not (commit := self.listed(branch)):
            raise GitError(f"origin has no branch {branch}", fix=f"git push origin {branch}")
        return commit

    def fetch(self, branch: str = "main") -> str:
        """Fetch origin's branch and return its commit id. As no ref changes, commands can fetch at once."""
        tip, ref = self.tip(branch), f"refs/heads/{branch}"
        here = self.run("for-each-ref", "--format=%(objectname)", ref, f"refs/remotes/origin/{branch}")
        if tip not in here.split():
            self.run("fetch", "--quiet", "--no-write-fetch-head", "--refmap=", "origin", ref)
        return tip

    def read(self, commit: str, path: str) -> str | None:
        """Return a file's text at a commit; None if the commit does not have the file."""
        there = self.run("ls-tree", commit, "--", path)
        return _decoded(self._bytes("show", f"{commit}:{path}")) if there else None

    def contents(self, entries: Mapping[str, tuple[str, str]]) -> dict[str, bytes]:
        """Return {path: bytes} of the blobs of `entries` {path: (mode, blob)}."""
        blobs = "".join(f"{blob}\n" for _, blob in entries.values())
        said = io.BytesIO(self._bytes("cat-file", "--batch", stdin=blobs.encode()))
        # Before each content is a line `<blob> blob <size>`, and after it a line feed
        return {path: said.read(int(said.readline().split()[2]) + 1)[:-1] for path in entries}

    def keep(self, content: bytes) -> str:
        """Write a blob to the object database and return its id."""
        return self._bytes("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def tree(self, tree: str, entries: Mapping[str, tuple[str, str] | None]) -> str:
        """Write `tree` with changed `entries` {path: (mode, blob), or None to remove it}; returns its id."""
        # removed paths come first, because a file may take the place of a folder
        ordered = sorted(entries.items(), key=lambda entry: entry[1] is not None)
        lines = ("{} {}\t{}\0".format(*(entry or ("0", "0" * 40)), path) for path, entry in ordered)
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self.run("read-tree", tree, env=env)
            self.run("update-index", "-z", "--index-info", stdin="".join(lines), env=env)
            return self.run("write-tree", env=env)

    def commit_on(self, parent: str, change: Change) -> str:
        """Create a commit on top of `parent` and return its id. Work tree and index do not change."""
        entries = {
            path: None if content is None else ("100644", self.keep(content.encode()))
            for path, content in change.files.items()
        }
        tree = self.tree(parent, entries)
        return self.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=change.message, env=BOT)

    def push(self, commit: str, branch: str, *, replaces: str | None = None) -> None:
        """Push `commit` as the new tip of `branch`.

        Raises PushRaced if the remote branch has moved on, or is already at `commit`: of two identical pushes
        at once, only one counts as successful. With `replaces`, the branch is overwritten even if `commit`
        does not descend from it, provided that it still is at the commit `replaces`; "" means that the branch
        must not exist.
        """
        ref = f"refs/heads/{branch}"
        lease = [] if replaces is None else [f"--force-with-lease={ref}:{replaces}"]
        try:
            said = self.run("push", "--porcelain", *lease, "origin", f"{commit}:{ref}")
        except GitError as error:
            # while a branch `release` exists, Git cannot create `release/x`, however often it is tried
            if any(word in str(error) for word in RACED) and "exists; cannot create" not in str(error):
                raise PushRaced(str(error)) from error
            raise
        if any(line.startswith("=") for line in said.splitlines()):
            raise PushRaced(f"{branch} is at {commit} already")

    def land(self, branch: str, decide: Callable[[str], Change | None]) -> str | None:
        """Commit and push on top of the remote branch, and start over if another push comes first.

        `decide` receives the remote's commit id and returns the Change, or None if there is nothing to do; it
        may raise Superseded. Returns the new commit's id, or None if nothing was committed.
        """
        # Imported here, because tenacity imports asyncio and Tornado, and most commands only read.
        from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        @retry(
            retry=retry_if_exception_type(PushRaced),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )
        def attempt() -> str | None:
            parent = self.fetch(branch)
            if (change := decide(parent)) is None:
                return None
            commit = self.commit_on(parent, change)
            if self.run("rev-parse", f"{commit}^{{tree}}") == self.run("rev-parse", f"{parent}^{{tree}}"):
                return None
            self.push(commit, branch)
            return commit

        return attempt()

    def share_settings(self, checkout: Path) -> None:
        """Copy the user's own DVC settings, which are not in Git, to another checkout."""
        settings = Path(".dvc", "config.local")
        if (self.root / settings).is_file() and (checkout / settings).parent.is_dir():
            shutil.copy2(self.root / settings, checkout / settings)

    @contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """Yield the path of a temporary checkout of `commit`, which is removed afterwards.

        It uses the same DVC cache and remotes as this clone.
        """
        # stale work trees are not pruned, because a user's work tree in a container looks missing from here
        with tempfile.TemporaryDirectory(prefix="loop-worktree-") as scratch:
            path = Path(scratch) / "tree"
            self.run("worktree", "add", "--quiet", "--detach", str(path), commit)
            try:
                self.share_settings(path)
                yield path
            finally:
                self.run("worktree", "remove", "--force", str(path))


@contextmanager
def bare(url: str, settings: Callable[[], Mapping[str, str]] = dict) -> Iterator[Git]:
    """Yield a temporary bare clone of branch main; git downloads a file's content when it is read."""
    with tempfile.TemporaryDirectory(prefix="loop-clone-", ignore_cleanup_errors=True) as scratch:
        only = ("--bare", "--single-branch", "--filter=blob:none", "--origin=origin", "--branch=main")
        Git(Path(scratch), settings, seconds=600).run("clone", "--quiet", *only, url, ".")
        yield Git(Path(scratch), settings, seconds=60)


def _decoded(said: bytes) -> str:
    """Return git's output with plain line feeds, and `�` for bytes that are not UTF-8."""
    return said.decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
