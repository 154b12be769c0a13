"""DVC's remote, a source, the prediction log and the store can all be in S3."""

import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from circle import production
from s3 import s3  # noqa: F401 - a fixture
from standin import Clone
from trained import MODEL, change, commit, loop, run, trained, trained_once  # noqa: F401 - fixtures

from loop.core import params
from loop.core.files import sha256
from loop.core.project import Project
from loop_demo.world import World

pytestmark = pytest.mark.slow
PACKAGE = "card_fraud"


def test_a_second_machine_pulls_what_the_first_one_pushed(trained, s3, tmp_path):  # noqa: F811
    """A machine with an empty cache gets data and model from S3 without running a stage."""
    run(sys.executable, "-m", "dvc", "remote", "add", "--default", "storage", "s3://team/dvc", cwd=trained)
    commit(trained, "Keep data in S3")
    loop(trained, "push", MODEL)
    run("git", "clone", "--quiet", str(tmp_path / "origin.git"), "other", cwd=tmp_path)
    other = tmp_path / "other"
    (other / ".dvc" / "config.local").write_text(f"[cache]\n    dir = {tmp_path / 'cache'}\n")
    assert "Running stage" not in loop(other, "repro", MODEL, "--check")
    ours, theirs = (Project(root, PACKAGE).trained for root in (trained, other))
    assert {file.name: sha256(file) for file in theirs.iterdir()} == {
        file.name: sha256(file) for file in ours.iterdir()
    }


def test_a_pinned_source_is_ingested_and_another_object_at_its_place_is_not(trained, s3):  # noqa: F811
    """`pin` records the object's hash; another object that replaces it later is bad input."""
    raw = Project(trained, PACKAGE).raw
    s3.put(str(raw), "team/rows.parquet")
    loop(trained, "pin", MODEL, "--source", "s3://team/rows.parquet")
    before = sha256(raw)
    raw.unlink()
    loop(trained, "stage", "ingest", MODEL)
    assert sha256(raw) == before
    assert params.load(trained, PACKAGE).ingest.source == "s3://team/rows.parquet"
    s3.pipe("team/rows.parquet", b"others")
    assert "sha256" in loop(trained, "stage", "ingest", MODEL, code=2)


def test_production_is_watched_and_retrained_from_its_log_and_store(trained, s3, tmp_path):  # noqa: F811
    """Five weeks of drift are found in S3; `retrain` makes ingest read these rows, but no later ones.

    Git tracks the list of the files that were read, although DVC makes Git ignore the outputs beside it.
    """
    world = World(trained, PACKAGE, tmp_path / "store", calm_days=0, drift_days=35, after_days=0)
    production(Clone(trained), "0123456789ab", world, tmp_path / "log")
    s3.put(str(tmp_path / "store"), "team/store", recursive=True)
    s3.put(str(tmp_path / "log"), "team/log", recursive=True)
    change(trained, monitor__store="s3://team/store")
    assert "drift" in loop(trained, "monitor", MODEL, "--log", "s3://team/log", code=6)
    loop(trained, "retrain", MODEL, "--until", world.retrain_at.isoformat(), "--reason", "drift")
    loop(trained, "stage", "ingest", MODEL)
    times = pq.read_table(Project(trained, PACKAGE).raw)["TX_DATETIME"]
    assert world.drift_from < pc.max(times).as_py() < world.retrain_at
    before = sha256(Project(trained, PACKAGE).raw)
    late = pq.read_table(s3.find("team/store/transactions")[0], filesystem=s3).slice(0, 1)
    late = late.set_column(0, "TRANSACTION_ID", pa.array([10**9]))
    with s3.open("team/store/transactions/0-late.parquet", "wb") as file:
        pq.write_table(late, file)
    loop(trained, "stage", "ingest", MODEL)
    assert sha256(Project(trained, PACKAGE).raw) == before
    added = run("git", "add", "--dry-run", "params.yaml", "data", cwd=trained)
    assert sorted(added.splitlines()) == ["add 'data/card_fraud/logged.json'", "add 'params.yaml'"]
