"""The facts of git, and the one way in which a machine commits: on top of the remote, by compare-and-swap."""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from loop.core.errors import LoopError

# GitHub's own bot for Actions: any other `…@users.noreply.github.com` belongs to the account of that name.
_NAME, _EMAIL = "github-actions[bot]", "41898282+github-actions[bot]@users.noreply.github.com"
BOT = {
    "GIT_AUTHOR_NAME": _NAME,
    "GIT_AUTHOR_EMAIL": _EMAIL,
    "GIT_COMMITTER_NAME": _NAME,
    "GIT_COMMITTER_EMAIL": _EMAIL,
}
# Git tells its hooks by these which repository they run for. A git that inherits them uses that repository
# instead of the one in its folder.
HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX")
PLAIN = {  # these override a person's own settings
    "log.follow": "false",  # it takes one path only
    "log.showSignature": "false",  # git would print the signature's check among the lines of a log
    "push.followTags": "false",  # a person's tags are no part of a machine's commit
    "safe.bareRepository": "all",  # `bare` makes one, in a folder that nobody else can write
}
HISTORY = ("log", "merge-base", "rev-list")  # in a shallow clone these answer for the few commits it has
RACED = (
    "non-fast-forward",
    "fetch first",
    "cannot lock ref",
    "failed to update ref",
    "incorrect old value",
    "reference already exists",
    "stale info",
)
IN_THE_WAY = re.compile(r"'refs/heads/(\S+)' exists; cannot create|directory file conflict")


class GitError(LoopError):
    """git itself failed; the message is its own."""


class PushRaced(GitError):
    """The remote moved between fetch and push."""


@dataclass(frozen=True)
class Change:
    """What a commit does: files to write (path: content, None removes) and its message."""

    files: Mapping[str, str | None]
    message: str


@dataclass(frozen=True)
class Git:
    """A clone. Every method is one git command or a few; none touches files people are editing.

    `settings` gives what each command has in its environment besides ours; `seconds` is a command's limit.
    """

    root: Path
    settings: Callable[[], Mapping[str, str]] = dict
    seconds: float | None = None

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        fine: Container[int] = (0,),
    ) -> str:
        """Run git here and return its output without the last newline; GitError with git's words.

        `fine` are the exit codes that are no error.
        """
        return self._output(*args, stdin=stdin, env=env, fine=fine).removesuffix("\n")

    def _output(
        self,
        *args: str,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        fine: Container[int] = (0,),
    ) -> str:
        """Run git here and return all of its output, which has to be UTF-8."""
        given = None if stdin is None else stdin.encode()
        try:
            # A commit's message may hold any bytes.
            errors = "replace" if args[0] == "log" else "strict"
            said = self._bytes(*args, stdin=given, env=env, fine=fine).decode(errors=errors)
            return said.replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise GitError(
                f"git {' '.join(args)}: this is not UTF-8", fix="write it again in UTF-8"
            ) from error

    def _bytes(
        self,
        *args: str,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        fine: Container[int] = (0,),
    ) -> bytes:
        """Run git here. A command that reads history makes a shallow clone whole first."""
        if args[0] in HISTORY:
            self.deepen()
        # In a server's pre-receive hook, the pushed commits can be read only with these variables.
        received = "GIT_QUARANTINE_PATH" in os.environ
        own = {name: value for name, value in os.environ.items() if received or name not in HOOK}
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
            raise GitError(f"git {' '.join(args)}: {said.strip()}")
        return done.stdout

    def head(self) -> str:
        """The commit that is checked out."""
        return self.run("rev-parse", "HEAD")

    def deepen(self) -> bool:
        """Fetch the history that a shallow clone lacks; whether any was lacking."""
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
        """The full id of a commit named by branch, tag or first digits; None if this clone lacks it."""
        try:
            return self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except GitError:
            return self.commit(name) if self.deepen() else None

    def descends(self, commit: str, ancestor: str) -> bool:
        """Whether `commit` is `ancestor` or has it in its history; False where `ancestor` is unknown here."""
        known = self.commit(ancestor)
        return known is not None and not self.run("rev-list", "--max-count=1", known, f"^{commit}")

    def fork_point(self, base: str, head: str) -> str | None:
        """The commit where `head` left `base`; None where `base` is unknown here or has no commit in common.

        A base is unknown after a forced push, and where GitHub names zeros or nothing, as for a new branch.
        """
        self.deepen()  # outside `try`: a history that cannot be had is no unknown base
        known = self.commit(base)
        try:
            return self.run("merge-base", known, head) if known else None
        except GitError:
            return None

    def listed(self, branch: str) -> str:
        """The commit that `branch` of origin is at; empty where origin has no such branch.

        What git is asked for is a pattern, and it lists `x/refs/heads/main` before `refs/heads/main`.
        """
        ref = f"refs/heads/{branch}"
        lines = (line.split("\t") for line in self.run("ls-remote", "origin", ref).splitlines())
        return next((commit for commit, name in lines if name == ref), "")

    def tip(self, branch: str = "main") -> str:
        """The commit that `branch` of origin is at; it need not be here."""
        if not (commit := self.listed(branch)):
            raise GitError(f"origin has no branch {branch}", fix=f"git push origin {branch}")
        return commit

    def fetch(self, branch: str = "main") -> str:
        """Bring `branch` of origin here and return its commit; no ref moves, so many may do so at once."""
        tip, ref = self.tip(branch), f"refs/heads/{branch}"
        here = self.run("for-each-ref", "--format=%(objectname)", ref, f"refs/remotes/origin/{branch}")
        if tip not in here.split():
            self.run("fetch", "--quiet", "--no-write-fetch-head", "--refmap=", "origin", ref)
        return tip

    def read(self, commit: str, path: str) -> str | None:
        """A file's text at a commit; None where it is not there."""
        if not self.run("ls-tree", commit, "--", path):
            return None
        return self._output("show", f"{commit}:{path}")

    def contents(self, blobs: Sequence[str]) -> list[bytes]:
        """The bytes of many blobs, in their order."""
        said = self._bytes("cat-file", "--batch", stdin="".join(f"{blob}\n" for blob in blobs).encode())
        found, at = [], 0
        for _ in blobs:
            begin = said.index(b"\n", at) + 1
            end = begin + int(said[at : begin - 1].split()[2])
            found.append(said[begin:end])
            at = end + 1
        return found

    def keep(self, content: bytes) -> str:
        """Write a blob and return its id."""
        return self._bytes("hash-object", "-w", "--stdin", stdin=content).decode().strip()

    def tree(self, tree: str, entries: Mapping[str, tuple[str, str] | None]) -> str:
        """Write a tree like `tree` but for some paths: their mode and blob, or None where they are gone."""
        gone = ("0", "0" * 40)
        ordered = sorted(entries.items(), key=lambda entry: entry[1] is not None)
        lines = (f"{mode} {blob}\t{path}\0" for path, (mode, blob) in ((p, e or gone) for p, e in ordered))
        with tempfile.TemporaryDirectory() as scratch:
            env = {"GIT_INDEX_FILE": f"{scratch}/index"}
            self.run("read-tree", tree, env=env)
            self.run("update-index", "-z", "--index-info", stdin="".join(lines), env=env)
            return self.run("write-tree", env=env)

    def tracks(self, path: str) -> bool:
        """Whether Git has a file of the work tree."""
        try:
            return bool(self.run("ls-files", "--error-unmatch", "--", path))
        except GitError:
            return False

    def commit_on(self, parent: str, change: Change) -> str:
        """Write a commit on top of `parent` by plumbing, in an index of its own; the tree stays as it is."""
        entries = {
            path: None if content is None else ("100644", self.keep(content.encode()))
            for path, content in change.files.items()
        }
        tree = self.tree(parent, entries)
        return self.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=change.message, env=BOT)

    def push(self, commit: str, branch: str, *, replaces: str | None = None) -> None:
        """Push `commit` as the next one of `branch`; PushRaced when the remote has moved on.

        `replaces` allows a branch that is no ancestor: it must still be at that commit ("": not be there).
        An equal commit by somebody else counts as raced: of two at once, one has won.
        """
        ref = f"refs/heads/{branch}"
        lease = [] if replaces is None else [f"--force-with-lease={ref}:{replaces}"]
        try:
            said = self.run("push", "--porcelain", *lease, "origin", f"{commit}:{ref}")
        except GitError as error:
            if found := IN_THE_WAY.search(str(error)):
                other = found[1] or branch.partition("/")[0]
                fix = f"rename or delete origin's branch {other}: with it, Git can have no branch {branch}"
                raise GitError(str(error), fix=fix) from error
            if any(word in str(error) for word in RACED):
                raise PushRaced(str(error)) from error
            raise
        if any(line.startswith("=") for line in said.splitlines()):
            raise PushRaced(f"{branch} is at {commit} already")

    def land(self, branch: str, decide: Callable[[str], Change | None], attempts: int = 30) -> str | None:
        """Compare and swap: read the remote, decide on what it says now, push; raced, decide again.

        `decide` gets the remote's commit and returns the change, or None when there is nothing to do
        (it may raise Superseded). Returns the new commit, or None.
        """
        # Here, because it imports asyncio and Tornado, and most commands only read.
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

        for attempt in Retrying(
            retry=retry_if_exception_type(PushRaced),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            stop=stop_after_attempt(attempts),
            reraise=True,
        ):
            with attempt:
                parent = self.fetch(branch)
                change = decide(parent)
                if change is None:
                    return None
                commit = self.commit_on(parent, change)
                if self.run("rev-parse", f"{commit}^{{tree}}") == self.run("rev-parse", f"{parent}^{{tree}}"):
                    return None
                self.push(commit, branch)
                return commit
        raise AssertionError("unreachable: the last attempt reraises")

    @contextmanager
    def worktree(self, commit: str) -> Iterator[Path]:
        """A scratch checkout of `commit`, removed afterwards.

        Nothing is pruned: a person's work tree may be missing here because it is in a container.
        """
        with tempfile.TemporaryDirectory(prefix="loop-worktree-") as scratch:
            path = Path(scratch) / "tree"
            self.run("worktree", "add", "--quiet", "--detach", str(path), commit)
            try:
                yield path
            finally:
                self.run("worktree", "remove", "--force", str(path))


@contextmanager
def bare(
    url: str, settings: Callable[[], Mapping[str, str]] = dict, branch: str = "main", seconds: float = 60
) -> Iterator[Git]:
    """A bare clone of one branch in a scratch folder, gone afterwards; files' contents come when read.

    `seconds` is the limit of each command, but for the clone itself, which has ten times as long.
    """
    with tempfile.TemporaryDirectory(prefix="loop-clone-", ignore_cleanup_errors=True) as scratch:
        only = ("--bare", "--single-branch", "--filter=blob:none", "--origin=origin", f"--branch={branch}")
        Git(Path(scratch), settings, 10 * seconds).run("clone", "--quiet", *only, url, ".")
        yield Git(Path(scratch), settings, seconds)
