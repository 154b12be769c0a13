"""Only what main has merged may run where something is written."""

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
    """What this clone believes of origin's branch may be older, as after a checkout of an event's commit."""
    old = here.head()
    save(clone, {"a": "later\n"})
    git(clone, "update-ref", "refs/remotes/origin/main", old)
    assert merged(here, "main") == here.head() != old


def test_a_commit_that_main_has_not_merged(here: Git, clone: Path) -> None:
    """The head of a branch that nobody merged is rejected, by its name and by its SHA."""
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
    """A name that is no commit is named in the error."""
    with pytest.raises(LoopError, match="not a branch, tag or commit"):
        merged(here, name)
