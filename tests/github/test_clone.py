"""`./loop github` starts a stand-in for a clone whose owner has no account at GitHub."""

import subprocess

import pytest
from trained import loop, work_tree

URL = "https://github.com/acme/shop.git"


def git(root, *args):
    who = ("-c", "user.name=t", "-c", "user.email=t@example.test")
    return subprocess.check_output(["git", *who, *args], cwd=root, text=True)


@pytest.fixture
def fork(tmp_path, cache):
    """Return a clone of the template without a remote."""
    root = tmp_path / "shop"
    work_tree(root)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "--all")
    git(root, "commit", "-qm", "Template")
    yield root
    loop(root, "github", "stop")


def test_git_reaches_the_stand_in_by_the_forks_own_url(fork):
    """While the stand-in runs, Git finds it at the fork's own URL, with this clone's main.

    It keeps pushed commits for its next start. When it stops, Git's settings are as before. If the fork has
    no name yet, or no stand-in runs, the errors say which command to run.
    """
    assert "./loop init" in loop(fork, "github", "start", code=2)
    loop(fork, "init", "--name", "shop", "--url", URL, "--registry", "ghcr.io/acme")
    assert "./loop github start" in loop(fork, "github", "propose", code=2)
    before = (fork / ".git/config").read_text()
    loop(fork, "github", "start")
    head = git(fork, "rev-parse", "HEAD").strip()
    assert git(fork, "ls-remote", URL).split() == [head, "HEAD", head, "refs/heads/main"]
    assert not list((fork / "build/github").glob("runs/*"))
    git(fork, "push", "-q", URL, "HEAD:refs/heads/more")
    loop(fork, "github", "start")
    assert "refs/heads/more" in git(fork, "ls-remote", URL)
    assert "open pull requests: none" in loop(fork, "github", "merge", code=2)
    assert "stopped" in loop(fork, "github", "stop")
    assert (fork / ".git/config").read_text() == before
    assert "not running" in loop(fork, "github", "stop")


def test_a_workflow_that_cannot_start_fails_the_command(fork):
    """A workflow that calls a missing file fails before a command can look, which still ends with 4."""
    loop(fork, "init", "--name", "shop", "--url", URL, "--registry", "ghcr.io/acme")
    for path in (fork / ".github/workflows").glob("*.yml"):
        path.unlink()
    on, job = "{pull_request: , push: {branches: [main]}}", "{uses: ./.github/workflows/missing.yml}"
    (fork / ".github/workflows/a.yml").write_text(f"name: Broken\non: {on}\njobs: {{a: {job}}}\n")
    git(fork, "add", "--all")
    git(fork, "commit", "-qm", "Break it")
    git(fork, "remote", "add", "origin", URL)
    loop(fork, "github", "start")
    git(fork, "checkout", "-qb", "topic")
    git(fork, "commit", "--allow-empty", "-qm", "Change")
    git(fork, "push", "-q", "origin", "topic")
    for words in (["propose"], ["merge"]):
        assert "failure   Broken: " in loop(fork, "github", *words, code=4)
