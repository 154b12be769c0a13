"""Every workflow is run under act by every event that it names, or it is said why not."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from standin import ROOT

HERE = Path(__file__).parent
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RUN_BY = {  # workflow, event: the test that starts it so, and asserts what it leaves
    "ci pull_request": "test_report.py::test_from_push_to_report",
    "ci push": "test_circle.py::test_the_circle",
    "ci workflow_dispatch": "test_real.py::test_ci_of_words",
    "drift schedule": "test_real.py::test_timers_of_a_fresh_fork",
    "drift workflow_dispatch": "test_circle.py::test_the_circle",
    "promote workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "refresh-lock schedule": "test_refresh_lock.py::test_new_locks_are_proposed",
    "refresh-lock workflow_dispatch": "test_refresh_lock.py::test_new_locks_are_proposed",
    "release push": "test_circle.py::test_the_circle",
    "release workflow_call": "test_circle.py::test_the_circle",
    "release workflow_dispatch": "test_circle.py::test_the_circle",
    "rollback workflow_dispatch": "test_real.py::test_promotions_and_a_rollback_at_once",
    "train schedule": "test_real.py::test_timers_of_a_fresh_fork",
    "train workflow_dispatch": "test_circle.py::test_the_circle",
}
# It starts a cluster, as root, for which `make test` is not the place: its one step is `make e2e`.
BY_MAKE_E2E = {"e2e schedule", "e2e workflow_dispatch"}


def test_every_event_of_every_workflow() -> None:
    """A new workflow, or a new event of one, needs a test that runs it."""
    yaml = YAML(typ="safe")
    named = {f"{path.stem} {event}" for path in WORKFLOWS for event in yaml.load(path)["on"]}
    assert named == {*RUN_BY, *BY_MAKE_E2E}


@pytest.mark.parametrize("test", sorted(set(RUN_BY.values())))
def test_the_tests_are_there(test: str) -> None:
    """A test that was renamed or dropped leaves no event behind that is run by nobody."""
    file, name = test.split("::")
    assert re.search(rf"(?m)^def {name}\(", (HERE / file).read_text(encoding="utf-8"))
