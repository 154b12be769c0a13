"""Which commit a name means, and whether main has merged it: only then may it run with write access."""

from loop.core.errors import LoopError, Rejected
from loop.core.git import Git, GitError


def merged(git: Git, name: str) -> str:
    """The whole SHA of what a branch of origin, a tag or a SHA (abbreviated or not) names, if main has it.

    LoopError where nothing has this name, Rejected where main has not merged it.
    """
    main = git.fetch()
    commit = _commit(git, f"refs/remotes/origin/{name}") or _commit(git, name)
    if commit is None:
        raise LoopError(f"{name!r} is no branch, tag or commit here", fix="give a commit of main by its SHA")
    try:
        git.run("merge-base", "--is-ancestor", commit, main)
    except GitError as error:
        said = f"main has not merged {name} ({commit[:12]})"
        raise Rejected(said, fix="merge its pull request first") from error
    return commit


def _commit(git: Git, name: str) -> str | None:
    try:
        return git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except GitError:
        return None
