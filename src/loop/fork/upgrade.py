"""Bringing a fork to another version of the template: Git merges three ways, then the migrations run.

The template's files of the version that the fork is at are the base, those of the new version are one side,
and the fork's are the other. No history in common is needed, as each side is a tree that is made for this.
Everything is written as objects of Git, which nobody sees, until one new branch names the result.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from loop.core import paths
from loop.core.errors import LoopError, Superseded
from loop.core.git import BOT, Git, GitError
from loop.fork import lean, migrations
from loop.fork.template import owned

Tree = dict[str, tuple[str, str]]  # path: its mode, and its blob in the fork's store of objects
CHANGELOG = "CHANGELOG.md"
NEEDED = "dvc.yaml"  # every version has it
BY_HAND = "- **Before you merge**"  # how an entry begins that asks something of a fork's people
MIGRATIONS = "src/loop/fork/migrations.py"
TEXTS = re.compile(r".+\.(?:py|ya?ml|toml|in)")  # the team's files that a migration may change
SHIPPED = "loop/template/"  # a wheel's copy of the template's own files
STATED = re.compile(r'^version = "(.+)"$', re.MULTILINE | re.IGNORECASE)
WHEEL = re.compile(r"loop-([^-]+)-[^/]*\.whl")
PLAIN = {"merge.directoryRenames": "false", "merge.renames": "true", "merge.conflictStyle": "merge"}
What = Literal[
    "updated", "added", "removed", "moved", "merged with yours", "kept: yours", "conflict", "migrated"
]
MARKED = "both changed the same lines; the branch has both, marked"
REMOVED = "you removed it, and the template changed it; it stays removed"
GONE = "the template removed it, and you changed it; yours is kept"


@dataclass(frozen=True)
class Version:
    """The template's files at one version, and what people call that version."""

    name: str
    files: Tree


@dataclass(frozen=True)
class Row:
    """A path, and what the upgrade does there. `note` says more where a person has to know more."""

    path: str
    what: What
    note: str = ""


@dataclass(frozen=True)
class Upgrade:
    """The result of an upgrade, before it is made: `tree` is all of it, and no branch names it yet."""

    base: Version
    to: Version
    head: str
    tree: str
    rows: tuple[Row, ...]
    news: tuple[str, ...]  # the changelog's entries between the two versions

    @property
    def branch(self) -> str:
        return f"upgrade-{self.to.name}"

    @property
    def nothing(self) -> bool:
        return not any(row.what != "kept: yours" for row in self.rows)

    @property
    def conflicts(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.what == "conflict")

    @property
    def by_hand(self) -> tuple[str, ...]:
        return tuple(entry for entry in self.news if entry.startswith(BY_HAND))


def read(git: Git, source: str) -> Version:
    """The template at a source: a wheel, a folder, a clone, or `commit:REV` of what the fork has fetched.

    LoopError where the source is none of these.
    """
    if source.startswith("commit:"):
        name = source.removeprefix("commit:")
        if not (commit := git.commit(name)):
            fix = (
                "git fetch the template first: git fetch https://…/loop.git main; then --to commit:FETCH_HEAD"
            )
            raise LoopError(f"this clone has no commit {name!r}", fix=fix)
        return Version(commit[:12], _listed(git, commit))
    if "://" in source and (named := WHEEL.fullmatch(source.rpartition("/")[2])):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / named[0]
            path.write_bytes(lean.downloaded(source))
            return Version(named[1], _unpacked(git, path))
    path = Path(source)
    if (path / ".git").exists():
        return read(git, f"commit:{_fetched(git, path)}")
    if path.is_dir():
        found = (each for each in path.rglob("*") if each.is_file() and each.suffix != ".pyc")
        files = {each.relative_to(path).as_posix(): each for each in found}
        modes = {name: _mode(each.stat().st_mode) for name, each in files.items()}
        return Version(_stated(path), _kept(git, files, modes))
    if path.is_file() and (named := WHEEL.fullmatch(path.name)):
        return Version(named[1], _unpacked(git, path))
    raise LoopError(
        f"{source}: is neither a wheel of the template, nor a folder, nor a commit",
        fix="name a file loop-<version>-py3-none-any.whl, a folder, or commit:<revision>",
    )


def plan(git: Git, to: str, base: str | None) -> Upgrade:
    """Work out an upgrade. Without `base`, the version that the fork is at is found; see `nearest`."""
    head = git.head()
    fork = _listed(git, head)
    vendored = any(path.startswith("src/loop/") for path in fork)
    new = read(git, to)
    old = read(git, base) if base else nearest(git, fork, to, vendored=vendored)
    changelogs = [_text(git, version.files.get(CHANGELOG)) for version in (old, new)]
    news = tuple(entry for entry in _entries(changelogs[1]) if entry not in _entries(changelogs[0]))
    mine = partial(owned, vendored=vendored)
    before, theirs = (
        {path: entry for path, entry in files.items() if mine(path)}
        for files in (
            old.files if vendored else lean.layer(old.files),
            new.files if vendored else lean.layer(new.files),
        )
    )
    for version, files in ((old, before), (new, theirs)):
        if NEEDED not in files:  # merged, it would remove all that it lacks
            raise LoopError(
                f"{version.name}: has no {NEEDED}, so it is not a version of the template",
                fix="name a wheel of a release, or the root of a clone of the template",
            )
    here = lean.found(_text(git, fork.get(lean.LOCK)))
    pins = lean.pins(to, new.name) if here else {}
    if pins:
        before, theirs = _repinned(git, before, here), _repinned(git, theirs, pins)
    merged, conflicts = _merged(git, fork, before, theirs, mine=mine, name=new.name)
    tree, migrated = _migrated(git, merged, theirs, new.files)
    if pins and lean.WANTED in fork:
        tree = git.tree(tree, _repinned(git, {lean.WANTED: fork[lean.WANTED]}, pins))
    rows = [*conflicts, *(Row(path, "migrated") for path in migrated)]
    said = {row.path for row in rows}
    rows += [row for row in _rows(git, merged, fork, before, theirs) if row.path not in said]
    return Upgrade(old, new, head, tree, tuple(sorted(rows, key=lambda row: row.path)), news)


def nearest(git: Git, fork: Tree, to: str, *, vendored: bool) -> Version:
    """The version that a fork is at: an installed template's own, else the one with most files in common.

    It is looked for in the history that leads to the new version, or among the wheels beside it. Of
    versions that have as many, the newest. LoopError where none has a file in common.
    """
    if not vendored and paths.TEMPLATE == paths.SHIPPED:
        return replace(read(git, str(paths.SHIPPED)), name="the installed version")
    ours = {(path, entry) for path, entry in fork.items() if owned(path, vendored=vendored)}

    def common(version: Version) -> int:
        return len(ours & version.files.items())

    found = max(_versions(git, to), key=common, default=None)
    if found is None or not common(found):
        raise LoopError(
            f"{to}: none of the versions beside it has a file as it is here",
            fix="--from SOURCE names the version that this fork was made of, or was last brought to",
        )
    return replace(
        found, name=f"{found.name}, which has {common(found)} of {len(ours)} files as they are here"
    )


def write(git: Git, upgrade: Upgrade) -> str:
    """Make the branch with its one commit; returns the commit. Superseded where there is such a branch."""
    ref = f"refs/heads/{upgrade.branch}"
    if git.run("for-each-ref", "--format=x", ref):
        raise Superseded(
            f"branch {upgrade.branch} is there already",
            fix=f"go on with it: git switch {upgrade.branch}; or begin again: git branch -D {upgrade.branch}",
        )
    lines = [f"Upgrade the template to {upgrade.to.name}", "", f"From {upgrade.base.name}."]
    lines += [f"Conflict: {row.path}" for row in upgrade.conflicts]
    lines += ["", *upgrade.news] if upgrade.news else []
    commit = git.run(
        "commit-tree",
        upgrade.tree,
        *("-p", upgrade.head, "-F", "-"),
        stdin="\n".join(lines) + "\n",
        env=None if git.run("config", "user.email", fine=(0, 1)) else BOT,
    )
    git.run("update-ref", ref, commit, "0" * len(commit))
    return commit


def refuse_changes(git: Git) -> None:
    """LoopError where the work tree has changes, which the branch would not have."""
    if changed := git.run("status", "--porcelain", "--untracked-files=no"):
        named = ", ".join(line[3:] for line in changed.splitlines())
        raise LoopError(
            f"these have changes that are in no commit: {named}", fix="git commit or git stash them"
        )


def _versions(git: Git, to: str) -> Iterator[Version]:
    """Versions that a fork may be at, newest first."""
    if WHEEL.fullmatch(Path(to).name):
        for wheel in sorted(Path(to).parent.glob("loop-*.whl"), key=_order, reverse=True):
            yield read(git, str(wheel))
        return
    tip = git.commit(to.removeprefix("commit:")) if to.startswith("commit:") else None
    if tip is None and (Path(to) / ".git").exists():
        tip = _fetched(git, Path(to))
    for commit in git.run("log", "--format=%H", tip).split() if tip else ():
        yield Version(commit[:12], _listed(git, commit))


def _order(wheel: Path) -> tuple[int, ...]:
    named = WHEEL.fullmatch(wheel.name)
    return tuple(map(int, re.findall(r"\d+", named[1]))) if named else ()


def _fetched(git: Git, clone: Path) -> str:
    """Bring the commit that another clone is at into the fork's store; no ref of the fork moves."""
    commit = Git(clone).head()
    git.run(
        "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--refmap=", str(clone.resolve()), "HEAD"
    )
    return commit


def _listed(git: Git, tree: str) -> Tree:
    listed = {}
    for line in git.run("ls-tree", "-r", "-z", tree).split("\0")[:-1]:
        about, path = line.split("\t", 1)
        mode, _, blob = about.split()
        listed[path] = (mode, blob)
    return listed


def _repinned(git: Git, files: Tree, pins: dict[str, str]) -> Tree:
    """The files, with these pins of the wheels in locks and requirements.in."""
    texts = {
        path: lean.repinned(path, _text(git, files.get(path)), pins) for path in (*lean.LOCKS, lean.WANTED)
    }
    changed = {
        path: (files[path][0], git.keep(text.encode())) for path, text in texts.items() if path in files
    }
    return files | changed


def _unpacked(git: Git, wheel: Path) -> Tree:
    """A wheel's files by their paths in a repository, and those of the demo's wheel if it is beside it.

    The packages are src/loop and src/loop_demo, beside the template's own files.
    """
    files, modes = {}, {}
    demo = wheel.with_name(wheel.name.replace("loop-", "loop_demo-", 1))
    with tempfile.TemporaryDirectory() as scratch:
        for each in (wheel, demo) if demo.is_file() else (wheel,):
            with zipfile.ZipFile(each) as archive:
                for info in archive.infolist():
                    if info.is_dir() or not info.filename.startswith(("loop/", "loop_demo/")):
                        continue
                    name = info.filename
                    path = name.removeprefix(SHIPPED) if name.startswith(SHIPPED) else f"src/{name}"
                    files[path] = Path(archive.extract(info, scratch))
                    modes[path] = _mode(info.external_attr >> 16)
        return _kept(git, files, modes)


def _kept(git: Git, files: dict[str, Path], modes: dict[str, str]) -> Tree:
    """Write files on disk as blobs, byte by byte."""
    lines = "".join(f"{file.absolute()}\n" for file in files.values())
    blobs = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines).split()
    return {path: (modes[path], blob) for path, blob in zip(files, blobs, strict=True)}


def _mode(mode: int) -> str:
    return "100755" if mode & 0o100 else "100644"


def _stated(folder: Path) -> str:
    """The version that a folder's own files state: before 0.2.0 pyproject.toml did."""
    for path in (folder / "src" / "loop" / "version.py", folder / "pyproject.toml"):
        if path.is_file() and (found := STATED.search(path.read_text(encoding="utf-8"))):
            return found[1]
    return "unnamed"


def _text(git: Git, entry: tuple[str, str] | None) -> str:
    return git.contents([entry[1]])[0].decode() if entry else ""


def _entries(changelog: str) -> list[str]:
    """A changelog's entries, one line each."""
    return [" ".join(entry.split()) for entry in re.findall(r"(?ms)^- .+?(?=^- |^#|\Z)", changelog)]


def _merged(
    git: Git, fork: Tree, before: Tree, theirs: Tree, *, mine: Callable[[str], bool], name: str
) -> tuple[str, list[Row]]:
    """The merged tree, and the paths where a person has to look.

    All three sides have the team's files as they are now, so these come out as they are. Where the team has
    removed a file of the template, it stays removed.
    """
    template = dict.fromkeys(path for path in fork if mine(path))
    sides = [git.tree("HEAD", template | side) for side in (before, theirs)]
    base = git.run("commit-tree", sides[0], stdin="base\n", env=BOT)
    ours, new = (
        git.run("commit-tree", tree, "-p", base, stdin="side\n", env=BOT)
        for tree in ("HEAD^{tree}", sides[1])
    )
    settings = [word for key, value in PLAIN.items() for word in ("-c", f"{key}={value}")]
    try:
        said = git.run(*settings, "merge-tree", "--write-tree", "-z", "--no-messages", ours, new, fine=(0, 1))
    except GitError as error:
        raise GitError(str(error), fix="install Git 2.38 or newer, which can merge trees") from error
    tree, *lines = said.split("\0")
    stages: dict[str, set[str]] = {}
    for line in filter(None, lines):
        about, path = line.split("\t", 1)
        stages.setdefault(path, set()).add(about.split()[2])
    result, entries, rows = _listed(git, tree), dict[str, tuple[str, str] | None](), []
    for path, found in stages.items():
        if "2" not in found:
            entries[path] = None
            rows.append(Row(path, "kept: yours", REMOVED))
        elif "3" not in found:
            rows.append(Row(path, "conflict", GONE))
        else:
            mode, blob = result[path]
            content = git.contents([blob])[0].replace(ours.encode(), b"yours")
            content = content.replace(new.encode(), f"template {name}".encode())
            entries[path] = (mode, git.keep(content))
            diff = f"; git diff {before[path][1][:12]} {theirs[path][1][:12]} shows the template's change"
            rows.append(Row(path, "conflict", MARKED + (diff if path in before and path in theirs else "")))
    return (git.tree(tree, entries) if entries else tree), rows


def _rows(git: Git, merged: str, fork: Tree, before: Tree, theirs: Tree) -> Iterator[Row]:
    """Rows of the paths that a merge changes without conflict, and of the fork's own changes that stay."""
    said = git.run("diff-tree", "-r", "-M", "--name-status", "-z", "HEAD", merged).split("\0")[:-1]
    words = iter(said)
    touched = set[str]()
    for status in words:
        path = next(words)
        touched.add(path)
        if status.startswith("R"):
            touched.add(to := next(words))
            yield Row(to, "moved", f"from {path}")
        elif status in "AD":
            yield Row(path, "added" if status == "A" else "removed")
        else:
            own = path in before and fork[path] != before[path]
            yield Row(path, "merged with yours" if own else "updated")
    for path, entry in before.items():
        if path not in touched and fork.get(path) != entry and fork.get(path) != theirs.get(path):
            yield Row(path, "kept: yours", "" if path in fork else "you removed it")


def _migrated(git: Git, tree: str, theirs: Tree, new: Tree) -> tuple[str, list[str]]:
    """The tree after the migrations, and the team's files that they have changed."""
    own = {path: entry for path, entry in _listed(git, tree).items() if path not in theirs}
    found = {path: entry for path, entry in own.items() if TEXTS.fullmatch(path)}
    contents = git.contents([blob for _, blob in found.values()])
    before: dict[str, str] = {}
    for path, content in zip(found, contents, strict=True):
        with suppress(UnicodeDecodeError):  # a file that is not text has nothing to be renamed
            before[path] = content.decode()
    after = _by_the_new_version(git, before, new)
    changed = [path for path, text in after.items() if text != before.get(path)]
    entries = {path: (found[path][0], git.keep(after[path].encode())) for path in changed}
    return (git.tree(tree, entries) if entries else tree), changed


def _by_the_new_version(git: Git, files: dict[str, str], new: Tree) -> dict[str, str]:
    """The files after the new version's migrations, which its own code runs; LoopError where that fails."""
    if "__main__" not in _text(git, new.get(MIGRATIONS)):  # of a version before 0.2.0, this engine's do
        return migrations.migrated(files)
    code = {path: blob for path, (_, blob) in new.items() if re.fullmatch(r"src/loop/.+\.py", path)}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in zip(code, git.contents(list(code.values())), strict=True):
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "loop.fork.migrations"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder}/src", "PYTHONSAFEPATH": "1"},
            input=json.dumps(files),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise LoopError(
            f"the new version's migrations failed: {done.stderr.strip()[-2000:]}",
            fix="upgrade to a version between, or report it to the template",
        )
    return dict(json.loads(done.stdout))
