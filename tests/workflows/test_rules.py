"""Rules for every workflow that no linter checks."""

import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from standin import ROOT

from loop.cli import COMMANDS, cli
from loop.fork.doctor import ENVIRONMENT, WRITERS

pytestmark = pytest.mark.sample

CHECKOUT = "actions/checkout@"
# Commands that read more of Git's history than the commit that is checked out. A job that runs one checks
# out with `fetch-depth: 0`; in any other shallow clone `loop.core.git.Git` fetches the rest.
READS_HISTORY = {"changed", "comment", "gate", "guard", "history", "judge", "merged", "monitor", "register"}
READS_HISTORY |= {"monitor-release", "propose-upgrade", "release", "report", "rollback", "upgrade"}
MERGED = "git merge-base --is-ancestor HEAD refs/remotes/origin/main"
# Commands that run code of third-party packages.
UNTRUSTED = {"stage", "repro", "train", "gate", "bento", "rehearse", "image", "test", "test-marked", "lock"}
SECRETS = re.compile(rf"secrets\.({'|'.join(WRITERS)})\b")
WRITES = {"actions", "attestations", "contents", "id-token", "packages"}
FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yml"))
FILES = [*WORKFLOWS, *sorted(FOLDER.glob("actions/*/action.yml"))]
PIN = re.compile(r"uses: (?P<action>[\w./-]+)@(?P<sha>[0-9a-f]{40}) # v\d+\.\d+\.\d+$")


@cache
def read(path: Path) -> dict[str, Any]:
    """Return a workflow or an action. It is shared, so tests must not change it."""
    return YAML(typ="safe").load(path)


def jobs() -> list[Any]:
    return [
        pytest.param(job, id=f"{path.stem}:{name}")
        for path in WORKFLOWS
        for name, job in read(path)["jobs"].items()
    ]


def scripts() -> list[str]:
    return [step["run"] for job in jobs() for step in job.values[0].get("steps", []) if "run" in step]


def loop_commands() -> list[list[str]]:
    found = [
        shlex.split(part)
        for script in scripts()
        for part in re.findall(r"(?m)^(?:\./loop|python -m loop) ([^|\n]*)", script)
    ]
    assert len(found) > 10
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_its_three_headers(path: Path) -> None:
    """A workflow begins with a comment, grants no permission to all jobs, and has a `concurrency:`."""
    assert path.read_text().startswith("# ")
    workflow = read(path)
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_only_equal_runs_share_a_concurrency_group(path: Path) -> None:
    """Runs in one concurrency group have the same inputs: GitHub cancels a waiting run for a newer one."""
    workflow = read(path)
    group = workflow["concurrency"]["group"]
    starts = [event or {} for event in (workflow.get("on") or workflow[True]).values()]
    inputs = {name for start in starts if isinstance(start, dict) for name in start.get("inputs", {})}
    lost = [name for name in inputs - {"reason", "why"} if f"inputs.{name}" not in group]
    assert not lost or "github.run_id" in group


@pytest.mark.parametrize("job", jobs())
def test_a_job_has_name_permissions_and_timeout(job: dict[str, Any]) -> None:
    """Every job has a name, its own permissions, and a timeout of at most six hours."""
    assert re.match(r"[A-Z]|\$\{\{", job["name"])
    assert "permissions" in job
    assert "uses" in job or job["timeout-minutes"] <= 360


def checkouts(job: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
    """Return a job's checkouts: their place among its steps, and their inputs."""
    steps = enumerate(job.get("steps", []))
    return [(n, step.get("with") or {}) for n, step in steps if step.get("uses", "").startswith(CHECKOUT)]


def commands(job: dict[str, Any]) -> set[str]:
    """Return the commands of ./loop and the targets of make that a job's steps call."""
    text = "\n".join(step.get("run", "") for step in job.get("steps", []))
    return {*re.findall(r"(?:\./loop|python -m loop|make) ([a-z-]+)", text)}


@pytest.mark.parametrize("job", jobs())
def test_a_job_that_can_write_trains_nothing(job: dict[str, Any]) -> None:
    """A job that may write to the repository runs nothing that trains, builds or tests."""
    if WRITES & {scope for scope, level in (job["permissions"] or {}).items() if level == "write"}:
        assert not commands(job) & UNTRUSTED


def given(job: dict[str, Any], action: str) -> list[dict[str, Any]]:
    """Return the inputs of each use of one of our actions in a job."""
    steps = [step for step in job.get("steps", []) if step.get("uses") == f"./.github/actions/{action}"]
    return [step.get("with") or {} for step in steps]


def only_on_main(path: Path) -> bool:
    """Say whether a workflow runs on main only: its first job checks that, or only such workflows call it."""
    workflow, name = read(path), f"./.github/workflows/{path.name}"
    first = next(job for job in workflow["jobs"].values() if "needs" not in job)
    if first.get("steps", [{}])[0].get("if") == "github.ref != 'refs/heads/main'":
        return True
    callers = [one for one in WORKFLOWS if name in {job.get("uses") for job in read(one)["jobs"].values()}]
    return {*workflow["on"]} == {"workflow_call"} and all(only_on_main(one) for one in callers)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_caches_are_separated_by_trust(path: Path) -> None:
    """A job that can write, or that resolves versions that are not merged, uses no cache.

    A release uses only a cache that main's own jobs have filled.
    """
    main = only_on_main(path)
    for name, job in read(path)["jobs"].items():
        writes = WRITES & {scope for scope, level in (job["permissions"] or {}).items() if level == "write"}
        for setup in given(job, "setup"):
            trust = setup.get("cache", "checks")
            if writes or "lock" in commands(job):
                assert trust == "false", name
            elif "bundle" in commands(job) or "upload" in str([step.get("uses") for step in job["steps"]]):
                assert trust in {"false", "main" if main else "checks"}, name
            assert trust != "main" or main, name


@pytest.mark.parametrize("trust", ["main", "checks"])
def test_main_reads_no_cache_of_a_pull_request(trust: str) -> None:
    """Every job may read main's cache, and main's jobs read no other; no signing key or bento is cached."""
    (step,) = read(FOLDER / "actions/cache/action.yml")["runs"]["steps"]
    filled = {name: str(text).replace("${{ inputs.trust }}", trust) for name, text in step["with"].items()}
    prefix = f"loop-${{{{ runner.os }}}}-{trust}-"
    assert filled["key"].startswith(prefix)
    restored = filled["restore-keys"].split("\n")[:-1]
    assert {key.startswith(prefix) for key in restored[:-1]} == {True}
    assert restored[-1] == "loop-${{ runner.os }}-main-"
    assert not {"keys", "bentoml"} & {line.rpartition("/")[2] for line in filled["path"].split()}


def test_every_verification_names_the_signer() -> None:
    """Each verification of an image requires the full identity of the workflow that signs on main."""
    release, signed = read(FOLDER / "workflows/release-model.yml"), "release-model.yml@refs/heads/main"
    assert given(release["jobs"]["publish"], "attest")
    assert release["jobs"]["build"]["steps"][0]["if"] == "github.ref != 'refs/heads/main'"
    found = [
        step
        for step in read(FOLDER / "actions/attest/action.yml")["runs"]["steps"]
        if "verify" in step.get("run", "")
    ]
    assert len(found) == 2
    for step in found:
        assert step["env"]["SIGNER"].endswith(f"/{signed}")
        for option in (' "$SIGNER"', "-ref refs/heads/main"):
            assert option in step["run"]
        assert "regex" not in step["run"]


def test_the_registry_is_named_by_the_checkout_that_logs_in() -> None:
    """The registry's name comes from the checkout of the job that logs in, not from the job that builds."""
    publish = read(FOLDER / "workflows/release-model.yml")["jobs"]["publish"]
    (login,) = given(publish, "login")
    assert login["registry"] == "${{ steps.bundle.outputs.registry }}"
    assert [step["run"].split()[1] for step in publish["steps"] if step.get("id") == "bundle"] == ["unbundle"]


@pytest.mark.parametrize("job", jobs())
def test_only_main_gets_secrets_that_can_write(job: dict[str, Any]) -> None:
    """A job that uses a secret with write access runs in an environment that only main may use."""
    if "uses" in job:
        assert job["secrets"] == {name: f"${{{{ secrets.{name} }}}}" for name in job["secrets"]}
    elif SECRETS.search(str(job)):
        # It is `production` if people approve each step: docs/protection.md.
        assert job["environment"]["name"] in (ENVIRONMENT, "production")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_pull_requests_workflow_cannot_write(path: Path) -> None:
    """A workflow that a pull request starts may write nothing and gets no secret with write access."""
    workflow = read(path)
    if "pull_request" in workflow["on"]:
        given = [level for job in workflow["jobs"].values() for level in (job["permissions"] or {}).values()]
        assert set(given) == {"read"}
        assert not SECRETS.search(path.read_text())
    assert "pull_request_target" not in workflow["on"]


@pytest.mark.parametrize("job", jobs())
def test_a_requested_commit_must_be_merged(job: dict[str, Any]) -> None:
    """After a checkout of a requested `ref`, the next step refuses a commit that main has not merged.

    It writes main's ref in full, because `origin/main` could also be a tag, which anybody may push.
    """
    for place, given in checkouts(job):
        if "ref" in given:
            assert given["fetch-depth"] == 0
            assert job["steps"][place + 1]["run"] == MERGED


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_dispatch_that_can_write_runs_on_main_only(path: Path) -> None:
    """A workflow that takes inputs and can write refuses every branch but main in its first step."""
    workflow = read(path)
    writes = [job for job in workflow["jobs"].values() if "write" in (job["permissions"] or {}).values()]
    if not writes or not (workflow["on"].get("workflow_dispatch") or {}).get("inputs"):
        return
    first = next(job for job in workflow["jobs"].values() if "needs" not in job)
    assert first["steps"][0]["if"] == "github.ref != 'refs/heads/main'"
    assert first["steps"][0]["run"].endswith("exit 1\n")
    assert all(job is first or "needs" in job for job in workflow["jobs"].values())


@pytest.mark.parametrize("job", jobs())
def test_a_job_that_reads_history_fetches_it(job: dict[str, Any]) -> None:
    """A job whose commands read Git's history checks out the whole history."""
    if commands(job) & READS_HISTORY:
        assert all(given.get("fetch-depth") == 0 for _, given in checkouts(job))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_actions_are_pinned_and_grants_have_reasons(path: Path) -> None:
    """Every remote action is pinned by commit, with its version in a comment; every grant has a reason."""
    for line in path.read_text().splitlines():
        if "uses:" in line and "uses: ./" not in line:
            assert PIN.search(line), line
        if re.match(r"\s+[a-z-]+: (read|write)\b", line):
            assert "# to " in line, line


@pytest.mark.parametrize("job", jobs())
def test_a_job_can_be_run_again(job: dict[str, Any]) -> None:
    """An upload replaces that of an earlier attempt: GitHub refuses a second artifact of the same name."""
    uploads = [step for step in job.get("steps", []) if "/upload-artifact@" in step.get("uses", "")]
    assert all(step["with"].get("overwrite") is True for step in uploads)


def test_each_action_has_one_version() -> None:
    """Every use of an action pins the same commit."""
    found = {
        found.groups() for p in FILES for line in p.read_text().splitlines() if (found := PIN.search(line))
    }
    assert len({action for action, _ in found}) == len(found) > 0


@pytest.mark.parametrize("script", scripts())
def test_scripts_contain_no_expression(script: str) -> None:
    """Values reach a script by environment variables, never by an expression, which could inject code."""
    assert "${{" not in script


def test_no_input_can_add_an_output() -> None:
    """A step strips line breaks from a variable in its outputs, because they would begin another output."""
    lines = [line for script in scripts() for line in script.splitlines() if "$GITHUB_OUTPUT" in line]
    taken = [line for line in lines if re.search(r"\$\{?(?!GITHUB_OUTPUT)[A-Z_]+", line)]
    assert taken
    assert [line for line in taken if "tr -d '\\n'" not in line] == []


@pytest.mark.parametrize("words", loop_commands(), ids=" ".join)
def test_commands_in_workflows_exist(words: list[str]) -> None:
    """Every command that a workflow calls exists, with all of its options."""
    assert words[0] in COMMANDS
    command = cli.get_command(None, words[0])
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known
