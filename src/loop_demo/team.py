"""A team and its fork: the actions of its people in a clone and on GitHub, and main's state after them."""

import os
import re
import subprocess
import time
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop.core import release_state
from loop.core.errors import Exit, LoopError
from loop.core.git import Git
from loop_demo.console import Console
from loop_demo.hub import Hub

ENVIRONMENT = "production"
# Matches an error message of ./loop in act's log
ERROR = re.compile(r"\| (?:\x1b\[\d+m)*(error: [^\x1b\n]*)")
FAILED = "❌"  # act's mark of a failed step


@dataclass
class Team:
    """The people of a team, who share one clone; `environment` is what their commands get besides."""

    tell: Console
    hub: Hub
    clone: Path  # the clone in which the team's people work
    model: str
    environment: dict[str, str]

    @property
    def git(self) -> Git:
        return Git(self.clone)

    def loop(self, *args: str, code: Exit = Exit.OK) -> str:
        """Run ./loop in the team's clone, as a person does, and return its output."""
        return loop(self.clone, self.environment, *args, code=code)

    def state(self) -> release_state.State:
        """Return production's release state on main."""
        found = release_state.at(self.git, self.git.fetch("main"), ENVIRONMENT, self.model)
        assert found is not None  # noqa: S101 - the fork has an overlay of its model
        return found

    def propose(self, name: str, title: str, edit: Callable[[], object]) -> dict[str, Any]:
        """Open a pull request from a branch of main with the changes that `edit` makes to the files."""
        self.git.run("checkout", "--quiet", "-B", name, self.git.fetch("main"))
        edit()
        self.git.run("add", "--all")
        self.git.run("commit", "--quiet", "-m", title)
        self.git.run("push", "--quiet", "--force", "origin", name)
        pull = self.hub.person.pull_request(name, title, "")
        self.tell.step(f"pull request #{pull['number']}: {title}")
        return pull

    def checked(self, pull: dict[str, Any]) -> dict[str, Any]:
        """Wait until the CI of a pull request has ended, and return the run."""
        run = self.finished("ci.yml", branch=pull["head"]["ref"])
        self.tell.step(f"CI of #{pull['number']}: {run['conclusion']}")
        return run

    def finished(
        self, workflow: str, before: Container[int] = (), *, seconds: float = 600, branch: str | None = None
    ) -> dict[str, Any]:
        """Wait for the workflow's run that is not in `before`, and return it.

        Only runs of `branch` count, where it is given. Raises LoopError after `seconds`.
        """
        deadline = time.monotonic() + seconds
        with self.tell.rich.status(workflow):
            while time.monotonic() < deadline:
                for run in self.hub.person.runs(workflow, status="completed"):
                    if run["id"] not in before and branch in {None, run["head_branch"]}:
                        return run
                time.sleep(0.3)
        fix = f"see {self.hub.folder}/runs"
        raise LoopError(f"{workflow} did not end within {seconds:.0f} s", fix=fix)

    def expect(self, run: dict[str, Any], conclusion: str, told: str = "") -> None:
        """Print a run's errors. LoopError unless it ended with `conclusion` and its log contains `told`."""
        log = self.hub.log(run)
        for error in dict.fromkeys(ERROR.findall(log)):
            self.tell.line(error)
        if run["conclusion"] != conclusion or told not in log:
            ended = f"{run['name']} ended in {run['conclusion']}"
            raise LoopError(f"{ended}, expected {conclusion} {told!r}\n{log.partition(FAILED)[0][-3000:]}")

    def merge(self, pull: dict[str, Any]) -> None:
        """Merge a pull request, and wait until release.yml has released the model."""
        before = self.hub.runs("release.yml")
        self.hub.merge(pull["number"])
        self.tell.step(f"#{pull['number']} merged; release.yml builds, rehearses and releases the model")
        self.expect(self.finished("release.yml", before), "success")

    def merge_release(self) -> None:
        """Merge the pull request of a release to production, as a reviewer does."""
        pulls = self.hub.person.call("GET", "/pulls", params={"state": "open", "base": "main"})
        release = next(pull for pull in pulls if pull["head"]["ref"].startswith("release/"))
        self.tell.step(f"pull request #{release['number']} by the bot: {release['title']}")
        self.hub.merge(release["number"])


def loop(root: Path, environment: dict[str, str], *args: str, code: Exit = Exit.OK) -> str:
    """Run ./loop in a clone and return its output. LoopError if its exit code is not `code`."""
    done = subprocess.run(
        ["./loop", *args],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != code:
        raise LoopError(f"./loop {' '.join(args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
