"""The bot may change only the files that it owns."""

import pytest
from click.testing import CliRunner
from refreshed import locks
from releases import B, canary, git, save, serve

from loop.cli.delivery import guard as command
from loop.core.errors import LoopError, Rejected
from loop.core.git import BOT, Change
from loop.delivery.canary import promote
from loop.delivery.guard import check, check_range

EMAIL = BOT["GIT_AUTHOR_EMAIL"]
OVERSTEP = {"src/a.py": "1"}


def bot(here, files):
    """Return a commit by the bot, which is not pushed."""
    return here.commit_on(here.fetch(), Change(files, "by the bot\n\nAction: release\n"))


def by(clone, author, committer, message):
    """Commit OVERSTEP with these addresses of author and committer, and return the commit; do not push it."""
    for path, text in OVERSTEP.items():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text)
    git(clone, "add", "-A")
    git(clone, "-c", f"author.email={author}", "-c", f"committer.email={committer}", "commit", "-qm", message)
    return git(clone, "rev-parse", "HEAD")


def test_every_lock_may_be_proposed():
    """`refresh-lock` may commit every lock that `make lock` writes in this repository."""
    check(set(locks()), "a refresh")


@pytest.mark.parametrize(
    "path",
    [
        "src/loop/core/git.py",
        "params.yaml",
        ".github/workflows/ci.yml",
        "kustomize/overlays/production/card-fraud/kustomization.yaml",
        "kustomize/overlays/production/card-fraud/release/extra.yaml",
        "kustomize/overlays/production/card-fraud/release/deeper/release.yaml",
        "elsewhere/kustomize/overlays/production/card-fraud/release/release.yaml",
        "data/card_fraud/raw.parquet",
    ],
)
def test_a_bot_commit_that_touches_a_persons_file_is_rejected(clone, here, path):
    """A single file of a person is enough to reject the bot's commit, and the error names the file."""
    base = here.fetch()
    head = bot(here, {path: "changed\n"})
    with pytest.raises(Rejected, match=f"changes files owned by people: {path}"):
        check_range(here, base, head)


def test_what_the_bot_does_is_allowed(clone, here, production):
    """A promotion is allowed, and so is a retraining, which changes params.yaml together with dvc.lock."""
    serve(clone, canary(10))
    base = here.fetch()
    head = promote(here, production, B, "canary-10").commit
    assert check_range(here, base, head)[0] == 1
    check({"params.yaml", "dvc.lock", "data/card_fraud/metrics.json"}, "a retraining")


def test_people_may_change_what_is_theirs(clone, here):
    """The guard checks only the bot's commits, so people may change any file."""
    base = here.fetch()
    save(clone, OVERSTEP)
    assert check_range(here, base, here.fetch())[0] == 0


@pytest.mark.parametrize(
    ("author", "committer", "message", "ours"),
    [
        (EMAIL, EMAIL, "release\n\nAction: release", True),
        (EMAIL, EMAIL, "style: format", False),
        (EMAIL, "noreply@github.com", "a squashed pull request\n\nAction: release", False),
        (EMAIL, "person@example.test", "amended\n\nAction: release", False),
    ],
)
def test_which_commits_are_our_machines(clone, here, author, committer, message, *, ours):
    """Only commits with Actions' address and our trailer are the bot's."""
    base, head = here.fetch(), by(clone, author, committer, message)
    if ours:
        with pytest.raises(Rejected, match=r"src/a\.py"):
            check_range(here, base, head)
    else:
        assert check_range(here, base, head)[0] == 0


@pytest.mark.parametrize("base", ["1" * 40, "0" * 40, "", "deleted"])
def test_an_unknown_base_checks_all_history(clone, here, base):
    """If the base is unknown, as after a forced push, the guard checks all history, and says so."""
    save(clone, {"dvc.lock": "stages: {}\n"})
    head = bot(here, {"dvc.lock": "stages:\n"})
    assert check_range(here, base, head) == (
        1,
        f"of the whole history, because base {base[:12] or '(none)'} is unknown",
    )
    git(clone, "switch", "-q", "--detach", bot(here, OVERSTEP))
    save(clone, {"docs/a.md": "1"})
    with pytest.raises(Rejected, match=r"src/a\.py"):
        check_range(here, base, here.fetch())


def test_commits_are_named_by_seven_digits_too(clone, here):
    """Base and head may be short SHAs; an unknown head is an error."""
    base, head = here.fetch(), bot(here, {"dvc.lock": "stages:\n"})
    assert check_range(here, base[:7], head[:7])[0] == 1
    with pytest.raises(LoopError, match="commit 1234567 does not exist"):
        check_range(here, base, "1234567")


def test_a_merge_answers_only_for_what_it_changes_itself(clone, here):
    """The bot may merge a person's branch: a merge counts only for what it changes itself."""
    base = here.fetch()
    git(clone, "switch", "-q", "-c", "theirs")
    save(clone, {"src/a.py": "1"})
    theirs = git(clone, "rev-parse", "HEAD")
    ours = here.commit_on(base, Change({"dvc.lock": "stages: {}\n"}, "lock\n\nAction: retrain"))
    git(clone, "switch", "-q", "--detach", ours)
    name = ("-c", "user.name=bot", "-c", f"user.email={EMAIL}")
    git(clone, *name, "merge", "-q", "-m", "merge\n\nAction: retrain", theirs)
    assert check_range(here, base, git(clone, "rev-parse", "HEAD"))[0] == 2


def test_the_command_says_how_many_it_checked(clone, here, monkeypatch):
    """The command prints how many commits it checked, and succeeds if none is by the bot."""
    monkeypatch.chdir(clone)
    said = CliRunner().invoke(command, [here.fetch(), here.fetch()], catch_exceptions=False)
    assert said.output.startswith("0 commits")


def test_an_output_in_git_is_rejected(clone, here):
    """Raw rows, features and models in Git are rejected, whoever commits them: they belong to DVC."""
    base = here.fetch()
    save(
        clone,
        {
            "data/m/metrics.json": "{}",
            "data/m/.gitignore": "/model\n",
            "data/m/logged.json": "[]",
            "data/notes.md": "1",
        },
    )
    assert check_range(here, base, here.fetch())[0] == 0
    (clone / "data/m").mkdir(exist_ok=True)
    (clone / "data/m/raw.parquet").write_text("rows")
    git(clone, "add", "--force", "data/m/raw.parquet")
    git(clone, "commit", "-qm", "data")
    with pytest.raises(Rejected, match=r"data/m/raw\.parquet[\s\S]*git rm -r --cached"):
        check_range(here, base, git(clone, "rev-parse", "HEAD"))
