"""A machine commits by compare-and-swap, on top of the remote's current commit."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from loop.core.errors import Superseded
from loop.core.git import BOT, Change, Git, GitError, PushRaced, bare


@pytest.fixture
def clones(origin, tmp_path):
    """Two clones of one remote."""
    second = tmp_path / "second"
    subprocess.run(["git", "clone", "-q", origin, second], check=True)
    return Git(tmp_path / "clone"), Git(second)


def count(git):
    return int(git.run("rev-list", "--count", git.fetch()))


def test_a_change_lands_on_the_remote_and_not_in_the_tree(clones):
    """The commit is on origin's main, and the clone's working tree has not changed."""
    git, other = clones
    commit = git.land("main", lambda _: Change({"a/b.txt": "new\n"}, "Add b"))
    assert other.read(other.fetch(), "a/b.txt") == "new\n"
    assert other.run("log", "-1", "--format=%H %an", commit) == f"{commit} github-actions[bot]"
    assert git.run("status", "--porcelain") == ""
    assert not (git.root / "a").exists()


@pytest.mark.parametrize("text", ["new\n", "new", "", "\n", "new\n\n"])
def test_a_file_is_read_as_it_was_written(clones, text):
    """A file is read exactly as it was written, with or without a newline at its end."""
    git, other = clones
    git.land("main", lambda _: Change({"a": text}, "Add a"))
    assert other.read(other.fetch(), "a") == text


def test_a_branch_of_a_longer_name_is_not_main(clones):
    """Asked for `refs/heads/main`, Git also lists `a/refs/heads/main`; only the commit of main is used."""
    git, other = clones
    main = git.tip()
    unreviewed = git.commit_on(main, Change({"evil": "\n"}, "unreviewed"))
    for branch in ("a/refs/heads/main", "a/refs/heads/gone"):
        git.push(unreviewed, branch)
    other.run("fetch", "-q", "origin")
    assert other.tip() == other.fetch() == main
    landed = other.land("main", lambda _: Change({"x": "\n"}, "Add x"))
    assert other.run("rev-parse", f"{landed}^") == main
    assert other.listed("gone") == ""
    with pytest.raises(GitError, match="origin has no branch gone"):
        other.tip("gone")


def test_a_clone_without_origin_is_told_to_add_it(clones):
    """A command that needs origin says how to add it."""
    git, _ = clones
    git.run("remote", "remove", "origin")
    with pytest.raises(GitError, match="'origin' does not appear") as caught:
        git.fetch()
    assert caught.value.fix == "git remote add origin URL"


def test_the_same_change_makes_no_second_commit(clones):
    """If the tree already has the change, it is not committed again."""
    git, other = clones
    change = Change({"x": "1\n"}, "Set x")
    assert git.land("main", lambda _: change)
    before = count(git)
    assert other.land("main", lambda _: change) is None
    assert count(git) == before


def test_everyones_change_lands_when_many_push_at_once(clones):
    """Concurrent writers rebase onto each other: every file arrives, and the history is linear."""
    git, _ = clones
    before = count(git)
    with ThreadPoolExecutor(8) as pool:
        for clone in range(8):
            pool.submit(
                clones[clone % 2].land, "main", lambda _, n=clone: Change({f"f{n}": f"{n}\n"}, f"Add {n}")
            )
    assert count(git) == before + 8
    assert git.run("rev-list", "--merges", git.fetch()) == ""


def test_a_decision_sees_what_came_first(clones):
    """If two writers want to do the same thing once, one does it and the other is superseded."""
    git, other = clones

    def once(clone):
        def decide(parent):
            if clone.read(parent, "done"):
                raise Superseded("somebody did it")
            return Change({"done": "by one\n"}, "Do it once")

        return decide

    with ThreadPoolExecutor(2) as pool:
        results = [pool.submit(clone.land, "main", once(clone)) for clone in (git, other)]
    assert sum(result.exception() is None for result in results) == 1
    assert sum(isinstance(result.exception(), Superseded) for result in results) == 1


def test_a_file_can_be_removed(clones):
    """A change that maps a path to None removes the file."""
    git, _ = clones
    git.land("main", lambda _: Change({"x": "1\n"}, "Add"))
    git.land("main", lambda _: Change({"x": None}, "Remove"))
    assert git.read(git.fetch(), "x") is None


def test_gits_own_words_are_in_the_error(clones):
    """The error of a failed command has Git's own message."""
    with pytest.raises(GitError, match="unknown revision"):
        clones[0].run("rev-parse", "no-such-thing")


def test_a_branch_in_the_way_is_named_at_once(clones):
    """Git cannot have both `release` and `release/x`. That is not a race, so the push is not repeated."""
    git, _ = clones
    main = git.tip()
    git.push(main, "release")
    with pytest.raises(GitError, match="'refs/heads/release' exists; cannot create") as told:
        git.push(main, "release/shop/0123", replaces="")
    assert not isinstance(told.value, PushRaced)


def test_a_worktree_goes_when_its_block_ends(clones):
    """A temporary worktree exists inside the block, and is removed afterwards."""
    git, _ = clones
    with git.worktree(git.head()) as path:
        assert (path / ".git").exists()
    assert not path.exists()
    assert len(git.run("worktree", "list").splitlines()) == 1


def test_a_worktree_of_a_commit_without_dvc_gets_no_settings(clones):
    """A team's settings for DVC do not keep it from comparing with a commit before it had DVC."""
    git, _ = clones
    (git.root / ".dvc").mkdir()
    (git.root / ".dvc/config.local").write_text("[cache]\n")
    with git.worktree(git.head()) as path:
        assert not (path / ".dvc").exists()


def test_a_bare_clone_follows_its_origin(clones, origin):
    """It has main's log, fetches only the files that are read, as they are now, and is removed at the end."""
    git, _ = clones
    first = git.land("main", lambda _: Change({"x": "1\n"}, "One"))
    git.run("config", "uploadpack.allowFilter", "true", env={"GIT_DIR": str(origin)})
    with bare(f"file://{origin}") as cloned:
        assert cloned.read("HEAD", "x") == "1\n"
        second = git.land("main", lambda _: Change({"x": "2\n"}, "Two"))
        assert cloned.fetch() == second
        objects = cloned.run("cat-file", "--batch-check", "--batch-all-objects")
        assert objects.count("blob") == 1  # the file that was read
        assert cloned.read(second, "x") == "2\n"
        assert cloned.run("log", "--format=%H", second, "--", "x").split() == [second, first]
    assert not cloned.root.exists()


def test_a_worktree_that_is_elsewhere_is_not_pruned(clones, tmp_path):
    """Git would prune a worktree whose folder is missing for now, as on a disk that is not mounted."""
    git, _ = clones
    git.run("worktree", "add", "-q", "-b", "mine", str(tmp_path / "mine"))
    (tmp_path / "mine").rename(tmp_path / "unmounted")
    with git.worktree("HEAD"):
        pass
    (tmp_path / "unmounted").rename(tmp_path / "mine")
    assert Git(tmp_path / "mine").run("rev-parse", "--abbrev-ref", "HEAD") == "mine"


def test_in_a_hook_no_other_repository_is_touched(clones, origin, monkeypatch):
    """Git's variables in a hook name its own repository and index, and must not affect any other one."""
    git, _ = clones
    git.run("commit", "--quiet", "--allow-empty", "--message=second", env=BOT)
    second = git.head()
    (git.root / "staged").write_text("by a person")
    git.run("add", "staged")
    monkeypatch.setenv("GIT_DIR", str(git.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(git.root / ".git" / "index"))
    with git.worktree("HEAD~1") as tree:
        assert Git(tree).head() != second
        assert Git(tree).run("status", "--porcelain") == ""
    with bare(str(origin)) as clone:
        assert clone.head() != second
    assert git.run("status", "--porcelain") == "A  staged"


def test_a_persons_settings_change_no_answer(clones, origin, tmp_path, monkeypatch):
    """A person's Git settings change neither what a log prints, nor what is pushed, nor the origin's name."""
    git, other = clones
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "settings"))
    (tmp_path / "settings").write_text(
        "[log]\nshowSignature = true\n[push]\nfollowTags = true\n[clone]\ndefaultRemoteName = upstream\n"
        "[safe]\nbareRepository = explicit\n"
    )
    header, _, message = git.run("cat-file", "commit", "HEAD").partition("\n\n")
    lines = ("-----BEGIN SSH SIGNATURE-----", " U1NIU0lH", " -----END SSH SIGNATURE-----")
    text = f"{header}\ngpgsig " + "\n".join(lines) + f"\n\n{message}\n"
    signed = git.run("hash-object", "-t", "commit", "-w", "--stdin", stdin=text)
    git.run("tag", "--annotate", "--message=mine", "mine", signed, env=BOT)
    assert git.run("log", "-1", "--format=%H", signed) == signed
    git.push(git.commit_on(signed, Change({"a": "\n"}, "Add a")), "signed")
    assert other.run("ls-remote", "--tags", "origin") == ""
    with bare(str(origin)) as clone:
        assert clone.tip() == clone.head()


def test_a_command_that_hangs_is_an_error(clones):
    """A command that takes longer than the limit in seconds is an error."""
    git = Git(clones[0].root, seconds=0.2)
    with pytest.raises(GitError, match=r"took over 0\.2 s"):
        git.run("-c", "alias.hang=!sleep 30", "hang")


def test_settings_hold_for_each_command(clones):
    """The environment is computed again for each command, because a token in it may have changed."""
    values = iter("ab")
    git = Git(clones[0].root, lambda: {"GIT_AUTHOR_NAME": next(values), "GIT_AUTHOR_EMAIL": "e"})
    assert [git.run("var", "GIT_AUTHOR_IDENT")[0] for _ in range(2)] == ["a", "b"]


@pytest.fixture
def shallow(clones, origin, tmp_path):
    """A clone of one commit, as `actions/checkout` makes it, of a branch that main does not have."""
    git, _ = clones
    for name in ("One", "Two"):
        git.land("main", lambda _, name=name: Change({name: "1\n"}, name))
    git.push(git.commit_on(git.fetch(), Change({"x": "1\n"}, "Topic")), "topic")
    git.land("main", lambda _: Change({"y": "1\n"}, "Three"))
    at = tmp_path / "shallow"
    clone = ["git", "clone", "-q", "--depth=1", "--branch=topic", f"file://{origin}", at]
    subprocess.run(clone, check=True)
    return Git(at)


@pytest.mark.parametrize("reads", [["log", "--format=%s"], ["rev-list", "HEAD"]])
def test_what_reads_history_makes_a_shallow_clone_whole(shallow, reads):
    """The command fetches the missing history, moves no branch, and does so only once."""
    branches = shallow.run("for-each-ref")
    assert len(shallow.run(*reads).splitlines()) == 4
    assert shallow.run("for-each-ref") == branches
    assert not shallow.deepen()


def test_where_no_history_can_be_had_the_fix_is_named(shallow):
    """If the whole history cannot be fetched, the error names the fix instead of using half the history."""
    shallow.run("remote", "remove", "origin")
    for read in (lambda: shallow.run("log"), lambda: shallow.fork_point("1" * 40, "HEAD")):
        with pytest.raises(GitError, match="fetch-depth: 0"):
            read()


def test_one_commit_descends_from_another(clones, shallow):
    """A commit descends from itself and its ancestors; an unknown commit has no descendants."""
    git, _ = clones
    main = git.fetch()
    before = git.run("rev-parse", f"{main}^")
    topic = git.fetch("topic")
    assert git.descends(main, before)
    assert git.descends(main, main)
    assert not git.descends(before, main)
    assert not git.descends(topic, main)
    assert not git.descends(main, "1" * 40)
    assert shallow.descends("HEAD", before)


def test_a_base_is_a_commit_or_unknown(clones):
    """A SHA, short SHA or branch is known; zeros, an empty text, lost and unrelated commits are unknown."""
    git, _ = clones
    begin = git.head()
    main = git.land("main", lambda _: Change({"x": "1\n"}, "One"))
    topic = git.commit_on(begin, Change({"y": "1\n"}, "Topic"))
    git.run("fetch", "--quiet")
    for base in (main, main[:7], "origin/main"):
        assert git.fork_point(base, topic) == begin
    unrelated = git.run("commit-tree", f"{main}^{{tree}}", "-m", "alone", env=BOT)
    for base in ("0" * 40, "", "1" * 40, "1234567", "--all", "deleted", unrelated):
        assert git.fork_point(base, topic) is None
