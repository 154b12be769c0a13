"""Every workflow is run under act by every event that it names, or it is said why not; in containers too."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from standin import ROOT

pytestmark = pytest.mark.sample

HERE = Path(__file__).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RUN_BY = {  # workflow, event: the test that starts it so, and asserts what it leaves
    "ci merge_group": "test_real.py::test_a_merge_queue_checks_what_will_be_main",
    "ci pull_request": "test_report.py::test_from_push_to_report",
    "ci push": "test_circle.py::test_the_circle",
    "ci workflow_dispatch": "test_real.py::test_ci_of_words",
    "drift schedule": "test_real.py::test_timers_of_a_fresh_fork",
    "drift workflow_dispatch": "test_circle.py::test_the_circle",
    "promote workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "refresh-lock schedule": "test_refresh_lock.py::test_new_locks_are_proposed",
    "refresh-lock workflow_dispatch": "test_refresh_lock.py::test_new_locks_are_proposed",
    "report workflow_run": "test_report.py::test_from_push_to_report",
    "release push": "test_circle.py::test_the_circle",
    "release workflow_call": "test_circle.py::test_the_circle",
    "release workflow_dispatch": "test_circle.py::test_the_circle",
    "release-model workflow_call": "test_circle.py::test_the_circle",
    "rollback workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "train schedule": "test_real.py::test_timers_of_a_fresh_fork",
    "train workflow_dispatch": "test_circle.py::test_the_circle",
    "train-model workflow_call": "test_circle.py::test_the_circle",
}
CHECK, CIRCLE, LOCKS = (
    "../e2e/test_7_containers.py::test_a_pull_request_is_checked_in_a_container",
    "../e2e/test_7_containers.py::test_the_circle_turns_in_containers",
    "../e2e/test_7_containers.py::test_new_locks_are_proposed_in_a_container",
)
IN_CONTAINERS = {  # of `make e2e`, as an engine wants root
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
# A timer and a merge queue start the jobs of a dispatch, so in containers the dispatch stands for them.
BY_DISPATCH = {"ci merge_group", "drift schedule", "refresh-lock schedule", "train schedule"}
# Its steps are `make e2e`, which starts a cluster as root, and `make first-week`. Both take too long here.
BY_MAKE_E2E = {"e2e schedule", "e2e workflow_dispatch"}
# Our own steps in them are `tools/wheels`, which tests/fork runs, and `make docs` (tests/repo/test_site.py).
# Release, provenance and Pages need GitHub itself.
ONLY_AT_GITHUB = {"docs push", "wheels push"}
# Its steps are two commands and two scripts, which tests/fork/test_proposal.py runs without a runner.
BY_STEPS = {"upgrade schedule", "upgrade workflow_dispatch"}


def named() -> set[str]:
    """Every workflow with every event that starts it."""
    yaml = YAML(typ="safe")
    return {f"{path.stem} {event}" for path in WORKFLOWS for event in yaml.load(path)["on"]}


def test_every_event_of_every_workflow() -> None:
    """A new workflow, or a new event of one, needs a test that runs it."""
    assert named() == {*RUN_BY, *BY_MAKE_E2E, *ONLY_AT_GITHUB, *BY_STEPS}


def test_every_event_in_containers() -> None:
    """It needs one that runs it in a container too, a timer by the dispatch of the same workflow."""
    assert named() == {*IN_CONTAINERS, *BY_DISPATCH, *BY_MAKE_E2E, *ONLY_AT_GITHUB, *BY_STEPS}
    assert {f"{event.split()[0]} workflow_dispatch" for event in BY_DISPATCH} <= set(IN_CONTAINERS)


@pytest.mark.parametrize("test", sorted({*RUN_BY.values(), *IN_CONTAINERS.values()}))
def test_the_tests_are_there(test: str) -> None:
    """A test that was renamed or dropped leaves no event behind that is run by nobody."""
    file, name = test.split("::")
    assert re.search(rf"(?m)^def {name}\(", (HERE / file).read_text(encoding="utf-8"))
