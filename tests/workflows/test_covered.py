"""A test starts every workflow by each of its events, also in containers, or a reason is listed here."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from standin import ROOT

pytestmark = pytest.mark.sample

HERE = Path(__file__).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RUN_BY = {  # workflow and event: the test that starts it, and asserts what it leaves
    "ci merge_group": "test_real.py::test_a_merge_queue_checks_the_commit_that_main_gets",
    "ci pull_request": "test_report.py::test_a_forks_pull_request_gets_a_report",
    "ci push": "test_circle.py::test_the_circle_turns",
    "ci workflow_dispatch": "test_real.py::test_a_change_of_documents_runs_only_their_tests",
    "drift schedule": "test_real.py::test_schedules_of_a_fresh_fork_are_green",
    "drift workflow_dispatch": "test_circle.py::test_the_circle_turns",
    "promote workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "refresh-lock schedule": "test_refresh_lock.py::test_new_locks_are_proposed",
    "refresh-lock workflow_dispatch": "test_refresh_lock.py::test_new_locks_are_proposed",
    "report workflow_run": "test_report.py::test_a_forks_pull_request_gets_a_report",
    "release push": "test_circle.py::test_the_circle_turns",
    "release workflow_call": "test_circle.py::test_the_circle_turns",
    "release workflow_dispatch": "test_circle.py::test_the_circle_turns",
    "release-model workflow_call": "test_circle.py::test_the_circle_turns",
    "rollback workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "train schedule": "test_real.py::test_schedules_of_a_fresh_fork_are_green",
    "train workflow_dispatch": "test_circle.py::test_the_circle_turns",
    "train-model workflow_call": "test_circle.py::test_the_circle_turns",
}
CHECK, CIRCLE, LOCKS = (
    "../e2e/test_7_containers.py::test_a_pull_request_is_checked_in_a_container",
    "../e2e/test_7_containers.py::test_the_circle_turns_in_containers",
    "../e2e/test_7_containers.py::test_new_locks_are_proposed_in_a_container",
)
IN_CONTAINERS = {  # run by `make e2e`, because a container engine needs root
    "ci pull_request": CHECK,
    "ci push": CIRCLE,
    "ci workflow_dispatch": CHECK,
    "drift workflow_dispatch": CIRCLE,
    "promote workflow_dispatch": CIRCLE,
    "refresh-lock workflow_dispatch": LOCKS,
    "report workflow_run": CHECK,
    "release push": CIRCLE,
    "release workflow_call": CIRCLE,
    "release workflow_dispatch": CIRCLE,
    "release-model workflow_call": CIRCLE,
    "rollback workflow_dispatch": CIRCLE,
    "train workflow_dispatch": CIRCLE,
    "train-model workflow_call": CIRCLE,
}
# A schedule and a merge queue start the same jobs as a dispatch, so in containers the dispatch is enough.
BY_DISPATCH = {"ci merge_group", "drift schedule", "refresh-lock schedule", "train schedule"}
# e2e.yml runs `make e2e`, which starts a cluster as root, and `make first-week`. Both take too long here.
BY_MAKE_E2E = {"e2e schedule", "e2e workflow_dispatch"}
# Their own steps are `tools/wheels`, which tests/fork runs, and `make docs` (tests/repo/test_site.py).
# The other steps need GitHub itself, for releases, provenance and Pages.
ONLY_AT_GITHUB = {"docs push", "wheels push"}
# upgrade.yml runs two commands and two scripts, which tests/fork/test_proposal.py runs without a runner.
BY_STEPS = {"upgrade schedule", "upgrade workflow_dispatch"}


def named() -> set[str]:
    """Return every workflow with every event that starts it."""
    yaml = YAML(typ="safe")
    return {f"{path.stem} {event}" for path in WORKFLOWS for event in yaml.load(path)["on"]}


def test_every_event_of_every_workflow_is_tested() -> None:
    """Every event of every workflow has a test that runs it, or a reason."""
    assert named() == {*RUN_BY, *BY_MAKE_E2E, *ONLY_AT_GITHUB, *BY_STEPS}


def test_every_event_is_tested_in_containers() -> None:
    """Every event also has a test in a container, or a reason; for a schedule, a dispatch is enough."""
    assert named() == {*IN_CONTAINERS, *BY_DISPATCH, *BY_MAKE_E2E, *ONLY_AT_GITHUB, *BY_STEPS}
    assert {f"{event.split()[0]} workflow_dispatch" for event in BY_DISPATCH} <= set(IN_CONTAINERS)


@pytest.mark.parametrize("test", sorted({*RUN_BY.values(), *IN_CONTAINERS.values()}))
def test_the_listed_tests_exist(test: str) -> None:
    """Every listed test exists, so a renamed or removed test leaves no event untested."""
    file, name = test.split("::")
    assert re.search(rf"(?m)^def {name}\(", (HERE / file).read_text(encoding="utf-8"))
