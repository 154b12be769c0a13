"""CI's last job, which branch protection requires, is green only if all other jobs did their work."""

import os
import subprocess
from typing import Any

import pytest
from ruamel.yaml import YAML
from standin import ROOT

pytestmark = pytest.mark.sample


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")["jobs"]


@pytest.fixture(scope="module")
def done(jobs: dict[str, Any]) -> dict[str, Any]:
    return jobs["done"]


def verdict(job: dict[str, Any], **facts: str) -> bool:
    (step,) = job["steps"]
    assert set(step["env"]) == set(facts)
    script = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(script, env={**os.environ, **facts}, check=False).returncode == 0


def test_it_always_runs_after_all_others(jobs: dict[str, Any], done: dict[str, Any]) -> None:
    """The last job needs every other job, and runs whether they succeed, fail or are skipped."""
    assert done["if"] == "always()"
    assert {*done["needs"], "done"} == set(jobs)


@pytest.mark.parametrize(
    ("facts", "green"),
    [
        ("success [1] success ['m'] success false skipped pull_request", True),
        ("success [] skipped ['m'] success false skipped pull_request", True),
        ("success [1] success [] skipped false skipped pull_request", True),
        ("success [1] success [] skipped true success pull_request", True),
        ("success [1] success ['m'] skipped false skipped push", True),
        ("success [] skipped ['m'] success true success pull_request", True),
        ("success [1] success ['m'] skipped true success push", True),
        ("failure  skipped  skipped  skipped pull_request", False),
        ("success [1] failure [] skipped false skipped pull_request", False),
        ("success [1] skipped [] skipped false skipped pull_request", False),
        ("success [1] cancelled [] skipped false skipped pull_request", False),
        ("success [] skipped ['m'] failure false skipped pull_request", False),
        ("success [] skipped ['m'] skipped false skipped pull_request", False),
        ("success [] skipped ['m'] cancelled false skipped push", False),
        ("success [1] success [] skipped true failure pull_request", False),
        ("success [1] success [] skipped true skipped pull_request", False),
        ("success [1] success [] skipped true skipped push", False),
        ("success [1] success [] skipped true cancelled push", False),
        ("success [] skipped ['m'] success true skipped pull_request", False),
        ("success [] skipped ['m'] success true failure pull_request", False),
        ("success  skipped  skipped  skipped pull_request", False),
    ],
)
def test_only_a_justified_skip_is_green(done: dict[str, Any], facts: str, green: bool) -> None:
    """The last job is green only if each job succeeded, or was skipped because it had nothing to do."""
    names = ("CHANGED", "TESTS", "TEST", "MODELS", "EVALUATE", "MANIFESTS", "DEPLOYED", "EVENT")
    assert verdict(done, **dict(zip(names, facts.split(" "), strict=True)), WORDS="false") is green


def test_an_edited_title_does_not_pass_the_required_check(done: dict[str, Any]) -> None:
    """After an edited title the job has another name, so that it does not count as the required check."""
    words = "github.event.action == 'edited' && !github.event.changes.base"
    assert done["steps"][0]["env"]["WORDS"] == f"${{{{ {words} }}}}"
    otherwise = "'Only words were edited' || 'Everything required has passed'"
    assert done["name"] == f"${{{{ {words} && {otherwise} }}}}"


def test_changed_manifests_are_always_checked(jobs: dict[str, Any]) -> None:
    """Changed manifests are always checked; they are reported separately only if no model has changed."""
    job = jobs["deployed"]
    assert job["if"] == "needs.changed.outputs.manifests == 'true'"
    steps = {step["run"]: step.get("if") for step in job["steps"] if "run" in step}
    (check,) = (run for run in steps if "render" in run and "--check" in run)
    assert steps[check] is None
    assert "models == '[]'" in steps["./loop comment"]
