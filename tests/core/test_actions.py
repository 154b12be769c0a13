"""What a command tells the workflow that runs it stays within what GitHub takes."""

from pathlib import Path

import pytest

from loop.core import actions


@pytest.mark.parametrize("character", ["x", "→"])
def test_a_summary_is_not_longer_than_github_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    """GitHub shows nothing of a summary over 1 MiB: what no longer fits is cut, and a sentence says so."""
    path = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    for size in (700_000, 700_000, 340_000, 8_000, 700_000, 700_000):
        actions.summary(f"### head\n{character * (size // len(character.encode()))}")
    text = path.read_bytes()
    assert 1_040_000 < len(text) <= 1_048_576
    assert text.decode().endswith(f"{actions.LEFT_OUT}\n")
    assert text.decode().count(character) > 1_000_000 // len(character.encode())
