"""A job gets from the stand-in what it gets from GitHub: an empty workspace, commits, a token, artifacts."""

import re
from pathlib import Path

import pytest
from standin import StandIn

CHECKOUT = "actions/checkout@df4cb1c069e1874edd31b4311f1884172cec0e10"
UPLOAD = "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a"
DOWNLOAD = "actions/download-artifact@3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c"


def workflow(jobs: str, on: str = "push") -> dict[str, str]:
    return {".github/workflows/tiny.yml": f"name: Tiny\non: {on}\npermissions: {{}}\njobs:\n{jobs}"}


def job(*steps: str, may: str = "contents: read", name: str = "job", more: str = "") -> str:
    listed = "".join(f"      - {step}\n" for step in steps)
    return f"  {name}:\n    runs-on: ubuntu-latest\n    permissions: {{{may}}}\n{more}    steps:\n{listed}"


def ran(standin: StandIn, folder: Path, jobs: str) -> tuple[str, str]:
    """Run the jobs on main's third commit, and return the run's conclusion and log."""
    clone = standin.seed(folder, workflow(jobs))
    clone.commit("second", {"a": "2\n"})
    clone.push("third", {"a": "3\n"})
    (run,) = standin.wait()
    return run["conclusion"], standin.log(run)


@pytest.mark.parametrize(
    ("depth", "commits"), [("", 1), ("with: {fetch-depth: 2}", 2), ("with: {fetch-depth: 0}", 3)]
)
def test_fetch_depth_sets_the_number_of_commits(
    standin: StandIn, folder: Path, depth: str, commits: int
) -> None:
    """A checkout has one commit, unless fetch-depth asks for more; 0 means all."""
    steps = [
        f"{{uses: {CHECKOUT}{', ' + depth if depth else ''}}}",
        "run: echo has $(git rev-list --count HEAD)",
    ]
    conclusion, log = ran(standin, folder, job(*steps))
    assert conclusion == "success", log
    assert f"has {commits}\n" in log


def test_a_workspace_begins_empty(standin: StandIn, folder: Path) -> None:
    """Without a checkout, a job has no file of the repository."""
    conclusion, log = ran(standin, folder, job('run: "[ -z \\"$(ls -A)\\" ]"'))
    assert conclusion == "success", log


def test_credentials_need_not_persist(standin: StandIn, folder: Path) -> None:
    """After a checkout with persist-credentials false, later steps cannot reach the repository."""
    steps = [
        f"{{uses: {CHECKOUT}, with: {{persist-credentials: false}}}}",
        'run: "! git fetch -q origin main"',
    ]
    conclusion, log = ran(standin, folder, job(*steps))
    assert conclusion == "success", log


def test_a_checkout_takes_a_branch_but_no_short_sha(standin: StandIn, folder: Path) -> None:
    """A job may check out a branch, but a short SHA is refused as an unknown branch."""
    short = f"{{uses: {CHECKOUT}, with: {{ref: abcdef1}}, continue-on-error: true}}"
    steps = [f"{{uses: {CHECKOUT}, with: {{ref: main}}}}", "run: echo on $(git branch --show-current)", short]
    conclusion, log = ran(standin, folder, job(*steps))
    assert conclusion == "success", log
    assert "on main\n" in log
    assert "A branch or tag with the name 'abcdef1' could not be found" in log


def test_each_job_has_its_own_token(standin: StandIn, folder: Path) -> None:
    """A job without write permission cannot push, even if another job of its run can."""
    push = "run: git push -q origin HEAD:refs/heads/$GITHUB_JOB"
    reads = job(f"uses: {CHECKOUT}", push, name="reads")
    writes = job(f"uses: {CHECKOUT}", push, name="writes", may="contents: write")
    conclusion, log = ran(standin, folder, reads + writes)
    assert conclusion == "failure"
    assert " 403" in log
    branches = standin.clone(folder.with_name("after")).git("branch", "-r").stdout
    assert "origin/writes" in branches
    assert "origin/reads" not in branches


def test_a_called_workflow_gets_no_more_than_its_caller_grants(standin: StandIn, folder: Path) -> None:
    """A called workflow that requests more permissions than its caller grants does not start."""
    called = "on: workflow_call\njobs:\n" + job("run: echo here", may="contents: write")
    caller = "  call:\n    permissions: {contents: read}\n    uses: ./.github/workflows/called.yml\n"
    clone = standin.seed(folder, {**workflow(caller), ".github/workflows/called.yml": called})
    clone.push("change", {"a": "1\n"})
    (run,) = standin.wait()
    assert run["conclusion"] == "failure"
    assert "more permissions than its caller grants: ['contents']" in standin.log(run)


@pytest.mark.parametrize(("level", "small"), [("", True), (", compression-level: 0", False)])
def test_an_artifact_is_compressed_unless_it_declines(
    standin: StandIn, folder: Path, level: str, *, small: bool
) -> None:
    """An artifact is compressed, unless its upload sets compression-level to 0."""
    makes = job(
        "run: head -c 9000 /dev/zero >out", f"{{uses: {UPLOAD}, with: {{name: made, path: out{level}}}}}"
    )
    conclusion, log = ran(standin, folder, makes)
    assert conclusion == "success", log
    (size,) = re.findall(r"Uploaded bytes (\d+)", log)
    assert (int(size) < 1000) is small


def test_artifacts_pass_between_jobs(standin: StandIn, folder: Path) -> None:
    """A job can download another job's artifact; only `overwrite` replaces one; a missing one is an error."""
    upload = f"{{uses: {UPLOAD}, with: {{name: made, path: out}}}}"
    makes = job(
        "run: mkdir -p out/deep && echo apples > out/deep/a",
        upload,
        f"{upload[:-1]}, continue-on-error: true}}",
        "run: echo pears > out/deep/a",
        f"{{uses: {UPLOAD}, with: {{name: made, path: out, overwrite: true}}}}",
        name="makes",
    )
    needs = "    needs: makes\n"
    steps = [f"{{uses: {DOWNLOAD}, with: {{name: made, path: in}}}}", "run: cat in/deep/a"]
    missing = f"{{uses: {DOWNLOAD}, with: {{name: other}}, continue-on-error: true}}"
    conclusion, log = ran(standin, folder, makes + job(*steps, missing, name="takes", more=needs))
    assert conclusion == "success", log
    assert "pears\n" in log
    assert "an artifact with the name made already exists" in log
    assert "Artifact not found for name: other" in log
