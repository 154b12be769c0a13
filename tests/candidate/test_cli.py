"""loop.cli.candidate."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from trained import MODEL, release

from loop.cli.candidate import status
from loop.core.git import Change, Git
from loop.delivery import state
from loop.serving.key import release_key

pytestmark = pytest.mark.slow


def said(clone: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The step outputs of `loop status`."""
    outputs = clone.parent / "outputs"
    outputs.write_text("")
    monkeypatch.setenv("GITHUB_OUTPUT", str(outputs))
    monkeypatch.chdir(clone)
    result = CliRunner().invoke(status, [MODEL])
    assert result.exit_code == 0, result.output
    return dict(line.split("=", 1) for line in outputs.read_text().splitlines())


def test_status_knows_what_is_released_and_what_is_barred(trained: Path, monkeypatch: pytest.MonkeyPatch):
    """A key is released while it is on a track at origin, and barred once it was rolled back."""
    key = release_key(trained, MODEL)
    assert said(trained, monkeypatch) == {"key": key, "released": "false", "barred": "false", "registry": ""}
    track = release(trained, key=key)
    assert said(trained, monkeypatch) == {"key": key, "released": "true", "barred": "false", "registry": ""}
    barred = state.State(
        stable=track.model_copy(update={"key": "f" * 12}), barred=(state.Barred(key=key, why="errors"),)
    )
    Git(trained).land("main", lambda _: Change(state.files(barred, "production", MODEL), "Roll back"))
    assert said(trained, monkeypatch) == {"key": key, "released": "false", "barred": "true", "registry": ""}
