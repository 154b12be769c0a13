"""Our client works even when half of all calls to GitHub are rate limited, fail or are cut off."""

from pathlib import Path

import pytest
from standin import StandIn, repositories

from loop.core.github import GitHub, GitHubError, Run

HAND = """\
on: {workflow_dispatch: }
jobs: {a: {runs-on: ubuntu-latest, steps: [{run: 'true'}]}}
"""


def test_an_outage_duplicates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an outage there is still one pull request, one comment with the last text, and one run per dispatch.

    A dispatch without an answer may have started its run, so it is not sent again.
    """
    for method in (GitHub.answer, GitHub.comment, GitHub.pull_request):
        monkeypatch.setattr(method.retry, "sleep", lambda _: None)
    sky = ("--at-once", "0", "--act", "false", "--weather", "1")
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
