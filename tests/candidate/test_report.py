"""loop.candidate.report and loop.candidate.comment."""

from pathlib import Path
from typing import Any

import pytest

from loop.candidate import comment
from loop.candidate.report import report
from loop.core.files import write_json
from loop.core.github import GitHub, GitHubError

GATE = {
    "verdict": "keep",
    "reasons": ["not shown to be better;\n+0.01 [-0.01, +0.03]"],
    "challenger": {"metrics": {"f1": 0.9}},
    "champion": {"key": "0123456789ab", "metrics": {"f1": 0.89}},
    "difference": {"metric": "f1", "low": -0.01, "mean": 0.01, "high": 0.03},
}


def test_the_report_shows_verdict_reasons_and_every_metric():
    """One line a metric: here, at the base, the change, the champion's; what is nested stays out."""
    metrics = {"f1": 0.9, "rows": 1200, "slices": {"night": {"f1": 0.8}}}
    text = report("m", metrics, {"f1": 0.88, "rows": 1000}, {"data_quality_score": 0.99}, GATE)
    assert "m: keep" in text
    assert "- not shown to be better; +0.01 [-0.01, +0.03]" in text
    assert "| f1 | 0.9000 | 0.8800 | +0.0200 | 0.8900 |" in text
    assert "| rows | 1,200 | 1,000 | +200 | - |" in text
    assert "Data quality: 99.00%" in text
    assert "slices" not in text


def test_a_report_without_base_champion_or_gate_says_so():
    """The first pull request of a model still gets its numbers."""
    text = report("m", {"f1": 0.9}, {}, {}, None)
    assert "has not judged" in text
    assert "| f1 | 0.9000 | - | - | - |" in text


@pytest.fixture
def event(origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workflow run of pull request 7, in a clone with metrics; returns the summary's file."""
    write_json(origin.parent / "clone/data/m/metrics.json", {"f1": 0.9})
    write_json(tmp_path / "event.json", {"pull_request": {"number": 7, "base": {"ref": "main"}}})
    summary = tmp_path / "summary.md"
    for name, value in {
        "GITHUB_EVENT_PATH": tmp_path / "event.json",
        "GITHUB_STEP_SUMMARY": summary,
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_TOKEN": "t",
    }.items():
        monkeypatch.setenv(name, str(value))
    return summary


def test_a_pull_request_gets_one_comment_and_the_job_its_summary(
    event: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
):
    """Both carry the same report; the comment goes to the event's pull request under the model's mark."""
    sent: list[Any] = []
    monkeypatch.setattr(GitHub, "comment", lambda _, *args: sent.append(args))
    text = comment.comment(origin.parent / "clone", "m")
    assert sent == [(7, "loop-report m", text)]
    assert event.read_text() == text + "\n"


def test_a_forks_token_leaves_the_report_in_the_summary(
    event: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
):
    """403 is no failure of the pull request; any other refusal is one."""

    def refuse(status: int) -> Any:
        def call(*_: Any, **__: Any) -> None:
            raise GitHubError("no", status)

        return call

    monkeypatch.setattr(GitHub, "call", refuse(403))
    assert "may not comment" in comment.comment(origin.parent / "clone", "m")
    assert "may not comment" in event.read_text()
    monkeypatch.setattr(GitHub, "call", refuse(500))
    with pytest.raises(GitHubError):
        comment.comment(origin.parent / "clone", "m")


def test_outside_a_pull_request_there_is_only_the_summary(
    event: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A push or a person calls no GitHub."""
    write_json(tmp_path / "event.json", {"ref": "refs/heads/main"})
    monkeypatch.delenv("GITHUB_TOKEN")
    assert "| f1 |" in comment.comment(origin.parent / "clone", "m")
    monkeypatch.delenv("GITHUB_EVENT_PATH")
    assert "| f1 |" in comment.comment(origin.parent / "clone", "m")
