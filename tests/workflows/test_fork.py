"""A fork's CI is green before anything is configured."""

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
    """Put the template's main into a new repository with another name, and clone it as a person."""
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
@pytest.mark.timeout(1500)  # lint takes long if the machine is busy
def test_a_fork_is_green_without_a_secret(forked):
    """`loop init` changes one file, and the push passes lint and tests although nothing is configured.

    CI runs only the sample of the tests, because the whole suite includes this test.
    """
    standin, clone = forked
    before = subprocess.check_output(["git", "grep", "-l", "your-team/loop"], cwd=clone.folder, text=True)
    command = ["./loop", "init", "--name", "fork", "--url", URL, "--registry", "ghcr.io/acme"]
    for _ in range(2):  # the second time changes nothing more
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
