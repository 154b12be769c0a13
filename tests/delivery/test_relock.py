"""`proposal.locks` proposes new locks and nothing else."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from releases import git, save
from ruamel.yaml import YAML
from standin import ROOT

from loop.core.errors import LoopError, Rejected
from loop.core.files import sha256
from loop.core.git import Git
from loop.core.github import GitHub, GitHubError, Run
from loop.delivery import guard, proposal


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Record the calls that GitHub receives."""
    calls: list[Any] = []
    monkeypatch.setattr(GitHub, "pull_request", lambda _, *args: calls.append(args) or {"number": 7})

    def dispatch(_: GitHub, workflow: str, __: object, ref: str) -> Run:
        calls.append((workflow, ref))
        return Run(1, "https://example.test/o/r/actions/runs/1")

    monkeypatch.setattr(GitHub, "dispatch", dispatch)
    return calls


def test_new_locks_are_one_pull_request(origin: Path, told: list[Any]) -> None:
    """New locks are one commit on main in one pull request, also when proposed again, and CI is started."""
    clone, github = origin.parent / "clone", GitHub("", "o/r", "")
    save(clone, {"requirements.lock": "a==1\n", "bentos/m/requirements.lock": "a==1\n"})
    assert proposal.locks(clone, github, "weekly") is None
    for version in ("2", "3"):
        (clone / "requirements.lock").write_text(f"a=={version}\n")
        assert proposal.locks(clone, github, "weekly\nAction: release") == "pull request #7"
    git = Git(clone)
    tip = git.fetch(proposal.LOCKS)
    assert git.read(tip, "requirements.lock") == "a==3\n"
    assert git.run("rev-parse", f"{tip}^") == git.fetch()
    assert "Why: weekly Action: release" in git.run("log", "-1", "--format=%B", tip)
    assert guard.check_range(git, git.fetch(), tip)[0] == 1
    assert told[-1] == ("ci.yml", proposal.LOCKS)


def test_a_proposal_of_locks_is_put_on_top_of_what_main_is_now(origin: Path, told: list[Any]) -> None:
    """The branch starts at main's latest commit, so CI tests the locks with the code that they will meet."""
    clone, github, git_ = origin.parent / "clone", GitHub("", "o/r", ""), Git(origin.parent / "clone")
    save(clone, {"requirements.lock": "a==1\n"})
    for code in ("1\n", "2\n"):
        git(clone, "checkout", "-q", ".")
        save(clone, {"src/x.py": code})
        (clone / "requirements.lock").write_text("a==2\n")
        assert proposal.locks(clone, github, "weekly") == "pull request #7"
        tip = git_.fetch(proposal.LOCKS)
        assert git_.run("rev-parse", f"{tip}^") == git_.fetch()
    assert proposal.locks(clone, github, "weekly") == "pull request #7"
    assert git_.fetch(proposal.LOCKS) == tip
    alone = git(clone, "commit-tree", "-m", "No parent", "HEAD^{tree}")
    git(clone, "push", "-q", "--force", "origin", f"{alone}:refs/heads/{proposal.LOCKS}")
    assert proposal.locks(clone, github, "weekly") == "pull request #7"
    assert git_.run("rev-parse", f"{git_.fetch(proposal.LOCKS)}^") == git_.fetch()


@pytest.mark.parametrize(
    ("said", "fails"),
    [
        ("GitHub Actions is not permitted to create or approve pull requests.", False),
        ("Resource not accessible by integration", True),
    ],
)
def test_a_fork_whose_workflows_may_open_no_pull_request(
    origin: Path,
    told: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    said: str,
    fails: bool,
) -> None:
    """If workflows may not open pull requests (GitHub's default), a person gets a link to the branch."""

    def refused(*_: object) -> None:
        raise GitHubError(f"POST /pulls: 403 {said}", 403)

    monkeypatch.setattr(GitHub, "pull_request", refused)
    clone, github = origin.parent / "clone", GitHub("", "o/r", "")
    save(clone, {"requirements.lock": "a==1\n"})
    (clone / "requirements.lock").write_text("a==2\n")
    if fails:  # another 403 is a fault of the workflow's own permissions
        with pytest.raises(GitHubError):
            proposal.locks(clone, github, "weekly")
        return
    assert proposal.locks(clone, github, "weekly") == "branch refresh-lock"
    assert told == [("ci.yml", proposal.LOCKS)]
    shown = capsys.readouterr().err
    assert "https://github.com/o/r/compare/main...refresh-lock?expand=1" in shown
    assert "Allow GitHub Actions to create" in shown


def test_more_than_locks_is_rejected(origin: Path, told: list[Any]) -> None:
    """Neither the proposal nor the guard accepts a commit of the bot that changes code beside a lock."""
    clone = origin.parent / "clone"
    save(clone, {"requirements.lock": "a==1\n", "src/x.py": "1\n"})
    for path in ("requirements.lock", "src/x.py"):
        (clone / path).write_text("2\n")
    with pytest.raises(Rejected, match=r"src/x\.py"):
        proposal.locks(clone, GitHub("", "o/r", ""), "weekly")
    with pytest.raises(Rejected, match=r"src/x\.py"):
        guard.check(["requirements.lock", "src/x.py"], "it")


def test_what_a_link_points_to_is_not_proposed(origin: Path, told: list[Any]) -> None:
    """A removed lock or a link is rejected, because a link could publish a token from the clone's .git."""
    clone = origin.parent / "clone"
    save(clone, {"requirements.lock": "a==1\n"})
    (clone / "requirements.lock").unlink()
    with pytest.raises(Rejected, match="a lock was removed"):
        proposal.locks(clone, GitHub("", "o/r", ""), "weekly")
    (clone / "requirements.lock").symlink_to(".git/config")
    with pytest.raises(LoopError, match=r"requirements\.lock is a symbolic link"):
        proposal.locks(clone, GitHub("", "o/r", ""), "weekly")
    assert told == []


def test_the_patch_writes_locks_only(origin: Path, tmp_path: Path) -> None:
    """If a patch changes code too, refresh-lock applies only the locks, as the next step runs the code."""
    clone, patch = origin.parent / "clone", tmp_path / "locks.patch"
    save(clone, {"tools/commit.lock": "a==1\n", "src/loop/__init__.py": "1\n"})
    for path in ("tools/commit.lock", "src/loop/__init__.py"):
        (clone / path).write_text("2\n")
    patch.write_text(git(clone, "diff", "--binary") + "\n")
    git(clone, "checkout", "-q", ".")
    steps = YAML(typ="safe").load(ROOT / ".github/workflows/refresh-lock.yml")["jobs"]["propose"]["steps"]
    (script,) = (step["run"] for step in steps if "git apply" in step.get("run", ""))
    told = {**os.environ, "RUNNER_TEMP": str(tmp_path), "SHA256": sha256(patch)}
    subprocess.run(["bash", "-e", "-c", script], cwd=clone, env=told, check=True)
    assert git(clone, "status", "--porcelain") == "M tools/commit.lock"
