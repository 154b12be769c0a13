"""A fork of the template is green before anything is configured."""

import re
import subprocess
from pathlib import Path

import pytest
from standin import Clone, Server, StandIn
from trained import work_tree

NAME = "acme/fork"
URL = f"https://github.com/{NAME}.git"


@pytest.fixture
def forked(tmp_path: Path):
    """The template's main in a new remote under another name, and a person's clone of it."""
    server = Server(tmp_path / "github", "--repository", NAME)
    standin = StandIn(server, NAME)
    template = Clone(tmp_path / "template")
    work_tree(template.folder)
    template.git("init", "-q", "-b", "main")
    template.commit("The template", {})
    template.git("push", "-q", standin.clone_url("bot"), "HEAD:main")
    yield standin, standin.clone(tmp_path / "clone")
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(1500)  # lint, on a machine that may be busy with others
def test_a_fork_is_green_with_no_secret(forked):
    """`loop init` names the fork in one place; its push passes lint and tests, and nothing was configured.

    Its CI runs the sample of the tests: all of them would include this one.
    """
    standin, clone = forked
    before = subprocess.check_output(["git", "grep", "-l", "your-team/loop"], cwd=clone.folder, text=True)
    command = ["./loop", "init", "--name", "fork", "--url", URL, "--registry", "ghcr.io/acme"]
    for _ in range(2):  # again, it changes nothing more
        subprocess.run(command, cwd=clone.folder, check=True, capture_output=True)
        changed = clone.git("diff", "--name-only").stdout.split()
        assert changed == ["argocd/repository.yaml"]
    assert "argocd/repository.yaml" in before
    assert URL in (clone.folder / "argocd/repository.yaml").read_text()

    clone.push("Name this fork", {})
    (run,) = standin.wait(seconds=1400)
    assert run["conclusion"] == "success", standin.log(run)[-5000:]
    assert "Lint and test" in standin.log(run)
    (passed,) = re.findall(r"(\d+) passed", standin.log(run))
    assert int(passed) > 400
