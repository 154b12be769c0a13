"""The project's client on a bad day of the stand-in's: half of all calls are limited, fail or are cut off."""

from pathlib import Path

import pytest
from standin import StandIn, repositories

from loop.core.github import GitHub, GitHubError, Run

HAND = """\
on: {workflow_dispatch: }
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}
"""


def test_nothing_is_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One pull request, one comment with the last words, and a run for each dispatch that was answered.

    A dispatch that was not answered may have made its run, and is not sent again.
    """
    for method in (GitHub.answer, GitHub.comment, GitHub.pull_request):
        monkeypatch.setattr(method.retry, "sleep", lambda _: None)
    sky = ("--at-once", "0", "--act", "false", "--weather", "1", "--weather-rate", "0.5")
    with repositories(tmp_path / "github", 1, *sky) as each:
        standin: StandIn = next(each)
        clone = standin.seed(tmp_path / "clone", {".github/workflows/hand.yml": HAND})
        clone.push("change", {"a": "1\n"}, "topic")
        bot, answered, unclear = standin.as_("bot"), [], 0
        for number in range(8):
            pull = bot.pull_request("topic", f"Title {number}", "why")
            bot.comment(pull["number"], "report", f"Report {number}")
            try:
                run = bot.dispatch("hand.yml", {})
                assert isinstance(run, Run)
                answered.append(run.id)
            except GitHubError as error:
                unclear += error.unclear
        assert [pull["title"] for pull in bot.call("GET", "/pulls")] == ["Title 7"]
        comments = [comment["body"] for comment in bot.call("GET", f"/issues/{pull['number']}/comments")]
        made = [run["id"] for run in bot.runs("hand.yml")]
    assert comments == ["<!-- report -->\nReport 7"]
    assert (len(answered) > 0, unclear > 0, len(answered) + unclear) == (True, True, 8)
    assert set(answered) <= set(made)
    assert len(made) <= len(answered) + unclear
