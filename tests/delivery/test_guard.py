"""The machine writes only what is the machine's."""

import sys

import pytest
from click.testing import CliRunner
from releases import B, canary, git, save, serve

from loop.cli.delivery import guard as command
from loop.core.errors import Rejected
from loop.core.git import Change, GitError
from loop.delivery.guard import check, check_range
from loop.delivery.promote import promote


def bot(here, files):
    """A commit by the bot, not pushed."""
    return here.commit_on(here.fetch(), Change(files, "by the bot"))


@pytest.mark.parametrize(
    "path",
    [
        "src/loop/core/git.py",
        "params.yaml",
        ".github/workflows/ci.yml",
        "kustomize/overlays/production/fraud-detector/kustomization.yaml",
        "kustomize/overlays/production/fraud-detector/release/extra.yaml",
        "kustomize/overlays/production/fraud-detector/release/deeper/release.yaml",
        "elsewhere/kustomize/overlays/production/fraud-detector/release/release.yaml",
        "data/fraud_detector/raw.parquet",
    ],
)
def test_a_bot_commit_that_touches_a_persons_file_is_rejected(clone, here, path):
    """The one file is enough, and it is named."""
    base = here.fetch()
    head = bot(here, {path: "changed\n"})
    with pytest.raises(Rejected, match=f"touches what people own: {path}"):
        check_range(here, base, head)


def test_what_the_bot_does_is_allowed(clone, here, production):
    """A promotion, and a retraining: params.yaml together with dvc.lock."""
    serve(clone, canary(10))
    base = here.fetch()
    head = promote(here, production, B, "canary-10").commit
    assert check_range(here, base, head) == 1
    check({"params.yaml", "dvc.lock", "data/fraud_detector/metrics.json"}, "a retraining")


def test_people_may_change_what_is_theirs(clone, here):
    """The guard looks at the bot's commits only; a new branch counts from where it leaves the others."""
    base = here.fetch()
    save(clone, {"src/a.py": "1"})
    assert check_range(here, base, here.fetch()) == 0
    assert check_range(here, "0" * 40, bot(here, {"dvc.lock": "stages: {}\n"})) == 1


def test_a_merge_answers_only_for_what_it_changes_itself(clone, here):
    """The bot may merge a person's branch: what is in that was the person's."""
    base = here.fetch()
    git(clone, "switch", "-q", "-c", "theirs")
    save(clone, {"src/a.py": "1"})
    theirs = git(clone, "rev-parse", "HEAD")
    ours = here.commit_on(base, Change({"dvc.lock": "stages: {}\n"}, "lock"))
    git(clone, "switch", "-q", "--detach", ours)
    name = ("-c", "user.name=loop-bot", "-c", "user.email=loop-bot@users.noreply.github.com")
    git(clone, *name, "merge", "-q", "--no-edit", theirs)
    assert check_range(here, base, git(clone, "rev-parse", "HEAD")) == 2


def test_a_server_refuses_the_push_by_its_hook(origin, clone, here, repository):
    """As a pre-receive hook the command sees the commit before it is anybody's."""
    head = bot(here, {"src/a.py": "1"})
    hook = origin / "hooks" / "pre-receive"
    run = f"PYTHONPATH={repository / 'src'} {sys.executable} -m loop guard"
    hook.write_text(f"#!/bin/sh\nwhile read old new ref; do {run} $old $new || exit 1; done\n")
    hook.chmod(0o755)
    with pytest.raises(GitError, match=r"touches what people own: src/a\.py"):
        here.push(head, "main")


def test_the_command_says_how_many_it_checked(clone, here, monkeypatch):
    """Nothing by the bot is fine too."""
    monkeypatch.chdir(clone)
    said = CliRunner().invoke(command, [here.fetch(), here.fetch()], catch_exceptions=False)
    assert said.output.startswith("0 commits")
