"""The demo runs on a file that a person gives, whatever the model's split."""

import shutil

import pytest
from trained import trained_once  # noqa: F401 - a fixture

from loop.core import params
from loop_demo import play


@pytest.mark.slow
@pytest.mark.parametrize("split", [None, {"kind": "random", "test": 0.25, "seed": 0}])
def test_a_model_without_time_takes_a_file(
    trained_once,  # noqa: F811
    template,
    tmp_path,
    monkeypatch,
    split,
):
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
    assert after.kind == (split or {"kind": "time"})["kind"]
