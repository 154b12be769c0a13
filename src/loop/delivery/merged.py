"""Finds the commit that a name means, and checks that it is merged: only merged code gets write access."""

from loop.core.errors import LoopError, Rejected
from loop.core.git import Git


def merged(git: Git, name: str) -> str:
    """Return the full SHA of a branch of origin, a tag or a (short) SHA, if main contains that commit.

    Raises LoopError if the name matches no commit, and Rejected if main does not contain the commit.
    """
    main = git.fetch()
    # Ask origin for the branch, because a checkout in CI resets origin/<branch> to the event's older commit.
    is_branch = name and git.listed(name)
    commit = git.fetch(name) if is_branch else git.commit(name)
    if commit is None:
        raise LoopError(f"{name!r} is not a branch, tag or commit here", fix="give the SHA of a main commit")
    if not git.descends(main, commit):
        raise Rejected(f"main has not merged {name} ({commit[:12]})", fix="merge its pull request first")
    return commit
