"""A stranger's pull request can forge runs, but they stop neither the judge nor the monitor."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from releases import B, canary
from standin import FORKER, ROOT, StandIn

from loop.core import params
from loop.core.git import Git
from loop.core.release_state import files
from loop.delivery.commit import Place
from loop.monitoring import judge as judging
from loop.monitoring.dispatch import Wish, dispatch
from loop.monitoring.judge import Judge, Track

pytestmark = pytest.mark.sample

MODEL = "card-fraud"
TITLES = {
    "promote.yml": f"Promote {MODEL}: production {B} from canary-0",
    "rollback.yml": f"Roll back {MODEL}: production {B}",
    "train.yml": f"Train {MODEL}: drift 0.40",
}
FORGED = """\
run-name: "{title}"
on: {{workflow_dispatch: , pull_request: }}
jobs: {{a: {{runs-on: ubuntu-latest}}}}
"""


class Reader:
    """Reads the metrics of a good canary."""

    def unlike(self, version: str, pods: int = 1) -> None: ...


def test_forged_runs_do_not_stop_judge_or_monitor(
    standin: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork's runs with the titles of judge and monitor do not keep them from dispatching their own.

    The fork starts its runs from a branch `main`. Judge and monitor then recognize the run that they have
    dispatched, and a cancelled run does not prevent another dispatch.
    """
    path = ".github/workflows"
    seeded = {f"{path}/{file}": (ROOT / path / file).read_text() for file in TITLES}
    seeded["params.yaml"] = "models: {card_fraud: {}}\n"
    clone = standin.seed(folder, seeded | files(canary(0), "production", MODEL))
    clone.git("remote", "add", "fork", standin.fork.clone_url("person"))
    clone.commit("forge", {f"{path}/{file}": FORGED.format(title=TITLES[file]) for file in TITLES})
    clone.git("push", "-q", "fork", "HEAD:main")
    opened = {"head": f"{FORKER}:main", "base": "main", "title": "Innocent"}
    standin.as_("person").call("POST", "/pulls", json=opened)
    assert sorted(run["display_title"] for run in standin.runs()) == sorted(TITLES.values())
    clone.git("reset", "-q", "--hard", "origin/main")

    inputs = {"model": MODEL, "environment": "production", "key": B, "why": "slow"}
    rolling = standin.as_("bot").dispatch("rollback.yml", inputs)
    assert standin.ask("GET", f"/actions/runs/{rolling.id}").json()["display_title"] == TITLES["rollback.yml"]
    monkeypatch.setattr(judging, "unready", lambda *_: None)
    git, bot, track = Git(folder), standin.as_("bot"), Track("", Reader())

    def judge() -> Judge:
        return Judge(git, Place(MODEL, "production"), params.Canary(), track, track, github=lambda: bot)

    def monitor() -> dict[str, Any]:
        now = datetime.now(UTC)
        return dispatch(git, bot, Wish(MODEL, now.replace(tzinfo=None), "drift 0.40"), params.Monitor(), now)

    watching = judge()
    assert (
        f"dispatched promote.yml: {standin.server.url}/{standin.name}/actions/runs/" in watching.look().line
    )
    promoting, retraining = standin.runs(event="workflow_dispatch")[0], monitor()
    assert retraining["url"].endswith(f"/runs/{promoting['id'] + 1}")
    for each in (watching, judge()):
        assert f"run {promoting['id']} is queued" in each.look().line
    assert monitor()["why"] == f"run {promoting['id'] + 1} is queued"
    for _ in range(2):  # the second call finds the run cancelled already
        bot.cancel(promoting["id"] + 1)
    assert monitor()["dispatched"]
