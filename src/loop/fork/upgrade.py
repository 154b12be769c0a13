"""Upgrades a fork to another version of the template by a three-way merge, followed by the migrations.

The base is the template at the fork's current version. One side is the template at the new version, the other
side is the fork. They need no common Git history, because the merge compares trees that are made for it.
Everything is written as unreferenced Git objects until, at the end, a new branch points to the result.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from loop.core import paths
from loop.core.errors import LoopError, Superseded
from loop.core.git import BOT, Git, GitError
from loop.fork import lean
from loop.fork.releases import order
from loop.fork.template import installed, owned, placed

Tree = dict[str, tuple[str, str]]  # {path: (mode, blob)}; the blobs are in the fork's Git repository
CHANGELOG = "CHANGELOG.md"
NEEDED = "dvc.yaml"  # a file that every version of the template has
BY_HAND = "- **Before you merge**"  # the beginning of an entry with work for the fork's team
MIGRATIONS = "src/loop/fork/migrations.py"
TEXTS = re.compile(r".+\.(?:py|ya?ml|toml|in)")  # the team's files that a migration may change
WHEEL = re.compile(r"loop-([^-]+)-[^/]*\.whl")
PLAIN = ("merge.directoryRenames=false", "merge.renames=true", "merge.conflictStyle=merge")
MARKED = "both changed the same lines; the branch has both versions between conflict markers"
REMOVED = "you removed the file, and the template changed it; it stays removed"
GONE = "the template removed the file, and you changed it; your version is kept"


@dataclass(frozen=True)
class Version:
    """The template's files at one version. `name` is the version as messages show it."""

    name: str
    files: Tree


@dataclass(frozen=True)
class Row:
    """A path, and what the upgrade does to the file there; `note` explains it if necessary."""

    path: str
    what: str  # updated, added, removed, moved, merged with yours, kept: yours, conflict or migrated
    note: str = ""


@dataclass(frozen=True)
class Upgrade:
    """A planned upgrade. `tree` is the Git tree of its result; `write` creates the branch with it."""

    base: str
    to: str
    head: str
    tree: str
    rows: tuple[Row, ...]
    news: tuple[str, ...]  # entries of the new version's changelog that the base's changelog does not have

    @property
    def branch(self) -> str:
        return f"upgrade-{self.to}"

    @property
    def conflicts(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.what == "conflict")


def read(git: Git, source: str) -> Version:
    """Return the template's version at `source`: a wheel's path or URL, or `commit:REV` for a fetched commit.

    Raises LoopError for any other source.
    """
    if source.startswith("commit:"):
        name = source.removeprefix("commit:")
        if not (commit := git.commit(name)):
            fix = "fetch the template: git fetch https://…/loop.git main; then use --to commit:FETCH_HEAD"
            raise LoopError(f"this clone has no commit {name!r}", fix=fix)
        return Version(commit[:12], _listed(git, commit))
    path, named = Path(source), WHEEL.fullmatch(source.rpartition("/")[2])
    with tempfile.TemporaryDirectory() as scratch:
        if named and "://" in source:
            path = Path(scratch) / named[0]
            for each in (named[0], named[0].replace("loop-", "loop_demo-", 1)):
                path.with_name(each).write_bytes(lean.content(source.removesuffix(named[0]) + each))
        if not named or not path.is_file():
            fix = "give a file loop-<version>-py3-none-any.whl, or commit:<revision>"
            raise LoopError(f"{source}: is neither a wheel of the template nor a commit", fix=fix)
        return Version(named[1], _kept(git, _unpacked(path, scratch)))


def _unpacked(wheel: Path, scratch: str) -> dict[str, Path]:
    """Return the files of the engine's wheel, and of the demo's beside it, by their paths in a clone.

    Raises LoopError if a wheel is damaged.
    """
    files: dict[str, Path] = {}
    demo = wheel.with_name(wheel.name.replace("loop-", "loop_demo-", 1))
    for each in (wheel, demo) if demo.is_file() else (wheel,):
        try:
            with zipfile.ZipFile(each) as archive:
                for info in archive.infolist():
                    if info.filename.startswith(("loop/", "loop_demo/")) and not info.is_dir():
                        file = files[placed(info.filename)] = Path(archive.extract(info, scratch))
                        file.chmod(0o600 | info.external_attr >> 16 & 0o100)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise LoopError(f"{each}: is damaged: {error}", fix="download it again") from error
    return files


def _kept(git: Git, files: dict[str, Path]) -> Tree:
    """Write files as Git blobs without conversion of line ends, and return them as a tree."""
    lines = "".join(f"{file.absolute()}\n" for file in files.values())
    blobs = git.run("hash-object", "-w", "--no-filters", "--stdin-paths", stdin=lines).split()
    modes = ("100755" if file.stat().st_mode & 0o100 else "100644" for file in files.values())
    return dict(zip(files, zip(modes, blobs, strict=True), strict=True))


def plan(git: Git, to: str, base: str | None, name: str = "") -> Upgrade:
    """Plan an upgrade from version `base` to version `to`, which is called `name` if that is given.

    Without `base`, `nearest` finds the fork's current version. Raises LoopError if `base` or `to` is not a
    version of the template.
    """
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
        for files in (version.files if vendored else lean.layer(version.files) for version in (old, new))
    )
    for version, files in ((old, before), (new, theirs)):
        if NEEDED not in files:  # the merge would delete each file that is missing there
            what = f"{version.name}: has no {NEEDED}, so it is not a version of the template"
            raise LoopError(what, fix="give the wheel of a release, or a commit of the template")
    here = lean.found(_text(git, fork.get(lean.LOCK)))
    pins = lean.pins(to, new.name) if here else {}
    if pins:
        before, theirs = _repinned(git, before, here), _repinned(git, theirs, pins)
    merged, conflicts = _merged(git, fork, before, theirs, mine=mine, name=new.name)
    tree = _migrated(git, merged, theirs, new.files)
    if pins and lean.WANTED in fork:
        tree = git.tree(tree, _repinned(git, {lean.WANTED: fork[lean.WANTED]}, pins))
    migrated = git.run("diff-tree", "-r", "--name-only", "-z", merged, tree).split("\0")[:-1]
    rows = [*conflicts, *(Row(path, "migrated") for path in migrated)]
    said = {row.path for row in rows}
    rows += [row for row in _rows(git, merged, fork, before, theirs) if row.path not in said]
    rows.sort(key=lambda row: row.path)
    return Upgrade(old.name, name or new.name, head, tree, tuple(rows), news)


def nearest(git: Git, fork: Tree, to: str, *, vendored: bool) -> Version:
    """Return the version of the template that the fork is at.

    If the engine is installed from a wheel, it is that wheel's version. Otherwise it is the version that has
    most files in common with the fork, and the newest of several. Candidates are the commit `to` and its
    ancestors, or the wheels in the folder of the wheel `to`. Raises LoopError if no candidate has a file in
    common with the fork, or if the only one is `to` and differs from the fork.
    """
    if not vendored and paths.TEMPLATE == paths.SHIPPED:
        return Version("the installed version", _kept(git, installed()))
    ours = {(path, entry) for path, entry in fork.items() if owned(path, vendored=vendored)}

    def common(version: Version) -> int:
        return len(ours & version.files.items())

    if to.startswith("commit:"):
        sources = git.run("log", "--format=commit:%H", to.removeprefix("commit:")).split()
    else:
        sources = sorted(map(str, Path(to).parent.glob("loop-*.whl")), key=order, reverse=True)
    found = max((read(git, source) for source in sources), key=common, default=None)
    if found is None or not common(found) or (len(sources) == 1 and common(found) < len(ours)):
        fix = "give --from SOURCE, the version that this fork was created from or last upgraded to"
        raise LoopError(f"{to}: no version beside or before it can be the one that this fork is at", fix=fix)
    share = f"{common(found)} of the {len(ours)} files as this fork has them"
    return replace(found, name=f"{found.name}, which has {share}")


def write(git: Git, upgrade: Upgrade) -> None:
    """Create the upgrade's branch with one commit. Raises Superseded if the branch exists already."""
    ref = f"refs/heads/{upgrade.branch}"
    if git.run("for-each-ref", "--format=x", ref):
        fix = f"to continue: git switch {upgrade.branch}; to start over: git branch -D {upgrade.branch}"
        raise Superseded(f"branch {upgrade.branch} exists already", fix=fix)
    lines = [f"Upgrade the template to {upgrade.to}", "", f"From {upgrade.base}."]
    lines += [f"Conflict: {row.path}" for row in upgrade.conflicts]
    lines += ["", *upgrade.news] if upgrade.news else []
    env = None if git.run("config", "user.email", fine=(0, 1)) else BOT
    commit = git.run("commit-tree", upgrade.tree, "-p", upgrade.head, stdin="\n".join([*lines, ""]), env=env)
    git.run("update-ref", ref, commit, "0" * len(commit))


def _listed(git: Git, tree: str) -> Tree:
    listed = {}
    for line in git.run("ls-tree", "-r", "-z", tree).split("\0")[:-1]:
        about, path = line.split("\t", 1)
        mode, _, blob = about.split()
        listed[path] = (mode, blob)
    return listed


def _repinned(git: Git, files: Tree, pins: dict[str, str]) -> Tree:
    """Return the files with `pins` as the pins of the wheels in the locks and in requirements.in."""
    changed = {}
    for path in (*lean.LOCKS, lean.WANTED):
        if path in files:
            text = lean.repinned(path, _text(git, files[path]), pins)
            changed[path] = (files[path][0], git.keep(text.encode()))
    return files | changed


def _text(git: Git, entry: tuple[str, str] | None) -> str:
    return git.contents({"": entry})[""].decode() if entry else ""


def _entries(changelog: str) -> list[str]:
    """Return the entries of a changelog, each joined into one line."""
    return [" ".join(entry.split()) for entry in re.findall(r"(?ms)^- .+?(?=^- |^#|\Z)", changelog)]


def _merged(
    git: Git, fork: Tree, before: Tree, theirs: Tree, *, mine: Callable[[str], bool], name: str
) -> tuple[str, list[Row]]:
    """Merge, and return the merged tree and a row for each path that both sides changed in conflict.

    The base and both sides contain the team's files as they are now, so the merge does not change them. If
    the team removed a file of the template, the file stays removed.
    """
    template = dict.fromkeys(path for path in fork if mine(path))
    sides = [git.tree("HEAD", template | side) for side in (before, theirs)]
    base = git.run("commit-tree", sides[0], stdin="base\n", env=BOT)
    ours, new = (
        git.run("commit-tree", tree, "-p", base, stdin="side\n", env=BOT)
        for tree in ("HEAD^{tree}", sides[1])
    )
    settings = [word for setting in PLAIN for word in ("-c", setting)]
    try:
        said = git.run(*settings, "merge-tree", "--write-tree", "-z", "--no-messages", ours, new, fine=(0, 1))
    except GitError as error:
        fix = "install Git 2.38 or newer, which has git merge-tree --write-tree"
        raise GitError(str(error), fix=fix) from error
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
            content = git.contents({path: result[path]})[path].replace(ours.encode(), b"yours")
            content = content.replace(new.encode(), f"template {name}".encode())
            entries[path] = (result[path][0], git.keep(content))
            diff = f"; git diff {before[path][1][:12]} {theirs[path][1][:12]} shows the template's change"
            rows.append(Row(path, "conflict", MARKED + (diff if path in before and path in theirs else "")))
    return (git.tree(tree, entries) if entries else tree), rows


def _rows(git: Git, merged: str, fork: Tree, before: Tree, theirs: Tree) -> Iterator[Row]:
    """Yield rows for the paths that the merge changes, and for the fork's own changes that it keeps."""
    words = iter(git.run("diff-tree", "-r", "-M", "--name-status", "-z", "HEAD", merged).split("\0")[:-1])
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
            yield Row(path, "kept: yours", "" if path in fork else "you removed the file")


def _migrated(git: Git, tree: str, theirs: Tree, new: Tree) -> str:
    """Return the tree after the new version's migrations, with that version's code, of the team's files."""
    if MIGRATIONS not in new:
        return tree
    own = {path: entry for path, entry in _listed(git, tree).items() if path not in theirs}
    own = {path: entry for path, entry in own.items() if TEXTS.fullmatch(path)}
    # Bytes that are not UTF-8 stay as they are, because a migration changes only text
    before = {path: each.decode(errors="surrogateescape") for path, each in git.contents(own).items()}
    code = {path: entry for path, entry in new.items() if re.fullmatch(r"src/loop/.+\.py", path)}
    with tempfile.TemporaryDirectory() as folder:
        for path, content in git.contents(code).items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-m", "loop.fork.migrations"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{folder}/src", "PYTHONSAFEPATH": "1"},
            input=json.dumps(before),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        fix = "upgrade to an intermediate version first, or report the error to the template's maintainers"
        raise LoopError(f"the new version's migrations failed: {done.stderr.strip()[-2000:]}", fix=fix)
    changed = {path: text for path, text in json.loads(done.stdout).items() if text != before.get(path)}
    blobs = {path: git.keep(text.encode(errors="surrogateescape")) for path, text in changed.items()}
    return git.tree(tree, {path: (own[path][0], blob) for path, blob in blobs.items()})
