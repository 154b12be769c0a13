"""The temporary files of a run."""

import tempfile

from loop.core.database import PREFIX, opened


def test_files_of_killed_runs(tmp_path, monkeypatch) -> None:
    """A run removes the files of killed runs, but not those that another run uses, and leaves none itself."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / f"{PREFIX}killed"
    killed.mkdir()
    (killed / "tables.duckdb").write_bytes(b"half")
    with opened() as one:
        assert not killed.exists()
        with opened():
            pass
        one.execute("create table still as select 1")
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())
