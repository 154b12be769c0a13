"""Only a commit that main has merged may run in a job with write access."""

from pathlib import Path

import pytest
from releases import git, save

from loop.core.errors import LoopError, Rejected
from loop.core.git import Git
from loop.delivery.guard import merged


def test_names_of_a_merged_commit(here: Git, clone: Path) -> None:
    """A branch, a whole SHA and seven characters of it all name the same commit of main."""
    tip = here.head()
    for name in ("main", "HEAD", tip, tip[:7]):
        assert merged(here, name) == tip
    save(clone, {"a": "later\n"})
    assert merged(here, tip[:7]) == tip


def test_a_branch_is_where_origin_has_it(here: Git, clone: Path) -> None:
    """A branch's commit is fetched from origin, because the clone's copy of the branch may be older."""
    old = here.head()
    save(clone, {"a": "later\n"})
    git(clone, "update-ref", "refs/remotes/origin/main", old)
    assert merged(here, "main") == here.head() != old


def test_a_commit_that_main_has_not_merged(here: Git, clone: Path) -> None:
    """The head of an unmerged branch is rejected, by the branch's name, by its SHA and by a short SHA."""
    tip = here.head()
    git(clone, "checkout", "-q", "-b", "topic")
    git(clone, "commit", "-q", "--allow-empty", "-m", "unreviewed")
    git(clone, "push", "-q", "origin", "topic")
    for name in ("topic", here.head(), here.head()[:7]):
        with pytest.raises(Rejected, match="main has not merged"):
            merged(here, name)
    assert merged(here, "main") == tip


@pytest.mark.parametrize("name", ["nowhere", "0" * 40, "--help", ""])
def test_a_name_of_nothing(here: Git, name: str) -> None:
    """A name that matches no branch, tag or commit is an error."""
    with pytest.raises(LoopError, match="not a branch, tag or commit"):
        merged(here, name)
