"""What the demo runs on, and what it prints."""

import shutil
from datetime import timedelta

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from trained import trained_once  # noqa: F401 - a fixture

from loop.core import params
from loop_demo import play
from loop_demo.console import Console


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, {"kind": "random", "test": 0.25, "seed": 0}])
def test_a_file_suits_any_split(trained_once, template, tmp_path, monkeypatch, split):  # noqa: F811
    """Only a split by time gets another end, the file's last day; the file is pinned in any case."""
    root = tmp_path / "clone"
    root.mkdir()
    (root / "src").symlink_to(template / "src")
    shutil.copy(template / params.FILE, root)
    if split:
        params.edit(root, {"models.card_fraud.split": split})
    pinned = []
    monkeypatch.setattr(play, "loop", lambda _root, _env, *words: pinned.append(words))
    file = trained_once / "clone/data/card_fraud/raw.parquet"
    play.configure(root, "card_fraud", tmp_path / "store", file)
    assert pinned == [("pin", "card_fraud", f"--source={file}")]
    after = params.load(root, "card-fraud").split
    if split:
        assert after.model_dump() == split
    else:
        latest = pc.max(pq.read_table(file)["TX_DATETIME"]).as_py()
        assert timedelta() <= latest - after.until < timedelta(days=1)


def test_a_report_on_the_terminal_has_no_chart_source(capsys):
    """On a terminal a note stands where GitHub draws a chart, because its source is a wall of numbers."""
    Console().markdown("**ROC**\n\n```mermaid\nxychart-beta\nline [1, 2]\n```\n\nThe end.")
    out = capsys.readouterr().out
    assert [line.strip() for line in out.split("\n") if line.strip()] == [
        *("ROC", "(a chart, which GitHub draws)", "The end.")
    ]
