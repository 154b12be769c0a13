"""The weekly upgrade finds the newest release, merges it, and proposes it in one pull request."""

import os
import subprocess
from pathlib import Path

import pytest
from aged import committed, git
from here import command
from ruamel.yaml import YAML

from loop.core.errors import Exit
from loop.core.git import BOT, Git, PushRaced
from loop.core.github import GitHub, Run
from loop.fork import proposal, releases
from loop.version import VERSION

PIN = "loop @ {}/releases/download/v{version}/loop-{version}-py3-none-any.whl \\\n    --hash=sha256:0\n"
HOOK = "#!/bin/sh\necho 'refusing to allow a GitHub App to create or update workflow `x`' >&2; exit 1\n"
NOBODY = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "EMAIL": ""}


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """Return a template with tags of this version, two newer ones (one annotated), and a pre-release."""
    root = tmp_path / "template"
    (root / "src/loop").mkdir(parents=True)
    (root / "src/loop/version.py").touch()
    for version in (VERSION, "9.0.0", "10.0.0"):
        (root / "dvc.yaml").write_text(f"# {version}\n")
        committed(root, version)
        git(root, "tag", *(("-a", "-m", "x") if version == "10.0.0" else ()), f"v{version}")
    git(root, "tag", "v11.0.0rc1")
    return root


@pytest.fixture
def fork(template: Path, tmp_path: Path) -> Path:
    """Return a clone of a fork that is at this version."""
    root = tmp_path / "fork"
    git(tmp_path, "clone", "-q", str(template), "seed")
    git(tmp_path / "seed", "reset", "-q", "--hard", f"v{VERSION}")
    for path in ("params.yaml", "requirements.lock"):
        (tmp_path / "seed" / path).touch()
    committed(tmp_path / "seed", "ours")
    git(tmp_path, "clone", "-q", "--bare", "seed", "origin.git")
    git(tmp_path, "clone", "-q", "origin.git", "fork")
    return root


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the calls that GitHub receives."""
    calls: list[str] = []
    monkeypatch.setattr(GitHub, "of_environment", lambda *_: GitHub("", "o/r", ""))
    monkeypatch.setattr(GitHub, "pull_request", lambda _, *args: calls.append(args) or {"number": 7})

    def dispatch(_: GitHub, workflow: str, __: object, ref: str) -> Run:
        calls.append((workflow, ref))
        return Run(1, "https://example.test/o/r/actions/runs/1")

    monkeypatch.setattr(GitHub, "dispatch", dispatch)
    return calls


def script(job: str, word: str, folder: Path, **env: str) -> None:
    """Run the step of the workflow's job whose script contains a word."""
    path = Path(__file__).parents[2] / ".github/workflows/upgrade.yml"
    steps = YAML(typ="safe").load(path)["jobs"][job]["steps"]
    (text,) = (step["run"] for step in steps if word in step.get("run", ""))
    subprocess.run(["bash", "-e", "-c", text], cwd=folder, env={**os.environ, **env}, check=True)


def test_the_newest_release_is_found_by_the_lock_or_the_setting(template, fork, monkeypatch):
    """A lean fork gets a wheel beside the one that its lock pins; a fork with the source gets a commit."""
    found = releases.newest(Git(fork))
    assert (found.source, "LOOP_TEMPLATE is not set" in found.why) == ("", True)
    monkeypatch.setenv("LOOP_TEMPLATE", str(template))
    commit = git(template, "rev-parse", "v10.0.0^{commit}").strip()
    assert releases.newest(Git(fork)) == releases.Release("10.0.0", f"commit:{commit}")
    (fork / "requirements.lock").write_text(PIN.format(template, version=VERSION))
    wheel = f"{template}/releases/download/v10.0.0/loop-10.0.0-py3-none-any.whl"
    assert releases.newest(Git(fork)) == releases.Release("10.0.0", wheel)
    for tag in ("v9.0.0", "v10.0.0"):
        git(template, "tag", "-d", tag)
    assert f"no release newer than {VERSION}" in releases.newest(Git(fork)).why


def test_the_weekly_upgrade_is_one_pull_request(template, fork, tmp_path, told, monkeypatch):
    """The workflow's steps propose one pull request; later runs push nothing, and people's commits stay."""
    monkeypatch.setenv("LOOP_TEMPLATE", str(template))
    output = tmp_path / "output"
    code, said = command(fork, "upgrade", "--no-check", GITHUB_OUTPUT=str(output), **NOBODY)
    assert (code, output.read_text()) == (0, "branch=upgrade-10.0.0\n"), said
    branch = {"BRANCH": "upgrade-10.0.0"}
    script("merge", "git bundle", fork, **branch, GITHUB_OUTPUT=str(output))
    digest = output.read_text().rpartition("sha256=")[2].strip()
    git(tmp_path, "clone", "-q", "origin.git", "publisher")
    publisher = tmp_path / "publisher"
    script("propose", "git fetch", publisher, **branch, RUNNER_TEMP=str(fork), SHA256=digest)
    code, said = command(publisher, "propose-upgrade", "upgrade-10.0.0")
    assert (code, said) == (0, "pull request #7\n")
    assert [call[:2] for call in told] == [
        ("upgrade", "Upgrade the template to 10.0.0"),
        ("ci.yml", "upgrade"),
    ]
    tip = git(tmp_path / "origin.git", "rev-parse", "upgrade")
    assert git(publisher, "show", f"{tip.strip()}:dvc.yaml") == "# 10.0.0\n"
    assert git(publisher, "log", "-1", "--format=%ae", tip.strip()).strip() == BOT["GIT_AUTHOR_EMAIL"]

    git(fork, "branch", "-q", "-D", "upgrade-10.0.0")
    assert command(fork, "upgrade", "--no-check", **NOBODY)[0] == 0
    assert command(fork, "propose-upgrade", "upgrade-10.0.0") == (0, "pull request #7\n")
    assert git(tmp_path / "origin.git", "rev-parse", "upgrade") == tip

    git(publisher, "switch", "-q", "-c", "settled", tip.strip())
    (publisher / "params.yaml").write_text("models: {}\n")
    git(publisher, "push", "-q", "origin", f"{committed(publisher, 'settled')}:refs/heads/upgrade")
    code, said = command(fork, "propose-upgrade", "upgrade-10.0.0")
    assert (code, "branch upgrade is not replaced, because t@example.test committed" in said) == (0, True)


def test_a_commit_that_a_person_pushes_during_a_proposal_is_not_replaced(fork, tmp_path, told, monkeypatch):
    """Only the tip whose author was checked is replaced; if a later commit came since, the push fails."""
    origin = tmp_path / "origin.git"
    git(fork, "switch", "-q", "-c", "upgrade-9.0.0")
    (fork / "dvc.yaml").write_text("# 9.0.0\n")
    committed(fork, "Upgrade the template to 9.0.0")
    told_bot = {**os.environ, **BOT}
    old = ["git", "commit-tree", "-p", "main", "-m", "by the bot", "main^{tree}"]
    bot = subprocess.run(
        old, cwd=origin, env=told_bot, check=True, capture_output=True, text=True
    ).stdout.strip()
    git(origin, "update-ref", "refs/heads/upgrade", bot)
    fetch = Git.fetch

    def overtaken(self, branch="main"):
        tip = fetch(self, branch)
        if branch == "upgrade":
            person = git(origin, "commit-tree", "-p", bot, "-m", "settled", "main^{tree}").strip()
            git(origin, "update-ref", "refs/heads/upgrade", person)
        return tip

    monkeypatch.setattr(Git, "fetch", overtaken)
    with pytest.raises(PushRaced):
        proposal.propose(Git(fork), GitHub("", "o/r", ""), "upgrade-9.0.0", "upgrade")
    assert git(origin, "log", "-1", "--format=%s", "upgrade").strip() == "settled"
    assert not told


def test_an_upgrade_that_main_has_overtaken_is_put_on_top_of_main(fork, tmp_path, told):
    """If main changes, even in other files, the branch is built again on main, so CI tests the merge."""
    origin = tmp_path / "origin.git"
    for word in ("first", "second"):
        git(fork, "switch", "-q", "main")
        (fork / "params.yaml").write_text(f"# {word}\n")
        committed(fork, word)
        git(fork, "push", "-q", "origin", "main")
        git(fork, "switch", "-q", "-C", "upgrade-9.0.0")
        (fork / "dvc.yaml").write_text("# 9.0.0\n")
        env = {**os.environ, **BOT}
        subprocess.run(["git", "commit", "-q", "-am", "Upgrade"], cwd=fork, env=env, check=True)
        assert proposal.propose(Git(fork), GitHub("", "o/r", ""), "upgrade-9.0.0", "upgrade")
        assert git(origin, "rev-parse", "upgrade^") == git(origin, "rev-parse", "main")


def test_a_token_that_may_not_push_workflows_is_named(fork, tmp_path, told):
    """If the token may not push workflows, the error names PUSH_KEY; a branch of two commits is rejected."""
    git(fork, "switch", "-q", "-c", "upgrade-9.0.0")
    (fork / "dvc.yaml").write_text("# 9.0.0\n")
    committed(fork, "Upgrade the template to 9.0.0")
    hook = tmp_path / "origin.git/hooks/pre-receive"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    code, said = command(fork, "propose-upgrade", "upgrade-9.0.0")
    assert (code, "PUSH_KEY" in said) == (Exit.BAD_INPUT, True), said
    (fork / "dvc.yaml").write_text("# two\n")
    committed(fork, "and one more")
    code, said = command(fork, "propose-upgrade", "upgrade-9.0.0")
    assert (code, "is not one commit on top of main" in said) == (Exit.BLOCK, True)
    assert not told
    assert proposal.BRANCH not in git(tmp_path / "origin.git", "branch")
