"""Which commit a name means, and whether main has merged it: only then may it run with write access."""

from loop.core.errors import LoopError, Rejected
from loop.core.git import Git


def merged(git: Git, name: str) -> str:
    """The whole SHA of what a branch of origin, a tag or a SHA (abbreviated or not) names, if main has it.

    LoopError where nothing has this name, Rejected where main has not merged it.
    """
    main = git.fetch()
    # Origin is asked, because a checkout of an event's commit sets its branch's origin/… back to that.
    is_branch = name and git.listed(name)
    commit = git.fetch(name) if is_branch else git.commit(name)
    if commit is None:
        raise LoopError(f"{name!r} is no branch, tag or commit here", fix="give a commit of main by its SHA")
    if not git.descends(main, commit):
        raise Rejected(f"main has not merged {name} ({commit[:12]})", fix="merge its pull request first")
    return commit
