"""The pipeline's commands work as a person or a workflow types them."""

import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from loop.candidate.register import Registered
from loop.cli import cli, pipeline
from loop.core import edited, params
from loop.core.errors import LoopError, Rejected
from loop.core.files import sha256
from loop.core.project import Project
from loop.fork import doctor
from models.card_fraud.source import Params, simulate


def loop(*args: str) -> Result:
    """Run a command, and let its exceptions through."""
    return CliRunner().invoke(cli, args, catch_exceptions=False)


def section(clone: Path) -> dict[str, Any]:
    return params.read(clone)["card_fraud"]


def test_stage_says_what_it_does_and_did(clone: Path) -> None:
    """`stage` prints a line on stderr when it starts, and rows and seconds when it ends."""
    done = loop("stage", "ingest", "card-fraud")
    rows = pq.read_metadata(clone / "data/card_fraud/raw.parquet").num_rows
    began, ended = done.stderr.splitlines()
    assert (done.exit_code, done.stdout, began) == (0, "", "ingest card_fraud …")
    assert ended.startswith(f"ingest card_fraud: {rows:,} rows in ")


def test_a_wrong_slice_is_said_before_the_training(clone: Path) -> None:
    """`stage train` does not begin if `evaluate` would fail by a slice; the fix lists features only."""
    params.edit(clone, {"models.card_fraud.evaluate.slices": ["TX_AMONT"]})
    loop("stage", "ingest", "card-fraud")
    loop("stage", "features", "card-fraud")
    with pytest.raises(LoopError, match="TX_AMONT is not a feature") as caught:
        loop("stage", "train", "card-fraud")
    assert caught.value.fix == "name one of TX_AMOUNT, TX_DURING_WEEKEND, TX_DURING_NIGHT, TERMINAL_ID_RISK"


def test_check_where_nothing_was_ever_trained(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Git never had a dvc.lock, `--check` passes and says how to begin; a deleted one is rejected."""
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.test")

    def commit() -> None:
        subprocess.run([*git, "add", "--all"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "change"], check=True)

    monkeypatch.setattr(pipeline, "_repro", lambda here, *_: (here / "dvc.lock").write_text("stages: {}\n"))
    subprocess.run([*git, "init", "-q"], check=True)
    commit()
    done = loop("repro", "card-fraud", "--check")
    assert "no commit has a dvc.lock" in done.stdout
    assert "./loop train card-fraud && git add params.yaml dvc.lock data && git commit" in done.stdout
    commit()
    assert loop("repro", "card-fraud", "--check").stdout == ""
    (clone / "dvc.lock").unlink()
    commit()
    with pytest.raises(Rejected, match=r"dvc\.lock"):
        loop("repro", "card-fraud", "--check")


def test_pin_makes_a_file_the_source(clone: Path) -> None:
    """`pin --source` writes source and hash; then ingest accepts these bytes, and no others."""
    path = clone / "transactions.parquet"
    pq.write_table(simulate(Params(cards=40, days=10)), path)
    loop("pin", "card-fraud", "--source", "transactions.parquet")
    assert section(clone)["ingest"]["sha256"] == sha256(path)
    assert loop("stage", "ingest", "card-fraud").exit_code == 0
    pq.write_table(simulate(Params(cards=40, days=11)), path)
    with pytest.raises(LoopError, match=r"\./loop pin card_fraud"):
        loop("stage", "ingest", "card-fraud")
    assert "sha256: " in loop("pin", "card-fraud").stdout
    assert loop("stage", "ingest", "card-fraud").exit_code == 0


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_pointer_of_lfs_is_not_pinned(clone: Path, name: str) -> None:
    """A Git LFS pointer in place of the file is refused, because its hash says nothing about the rows."""
    (clone / name).write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"
    )
    before = (clone / "params.yaml").read_text()
    with pytest.raises(LoopError, match=f"{name}: found a Git LFS pointer, expected the file itself"):
        loop("pin", "card-fraud", "--source", name)
    assert (clone / "params.yaml").read_text() == before


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"", "is empty"),
        ("t.csv", b"id,amount\n", "has no rows"),
        ("t.csv", b"\x80\xff\n1\n", "a column name is not UTF-8"),
        ("t.tsv", b"id\tamount\n1\t2\n", "is neither Parquet nor CSV"),
        ("t.parquet", b"id,amount\n1,2\n", "found text, expected Parquet"),
    ],
)
def test_what_ingest_cannot_read_is_not_pinned(
    clone: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, said: str
) -> None:
    """`pin` refuses a file that `ingest` could never read, unless the model reads its files itself."""
    (clone / name).write_bytes(content)
    before = (clone / "params.yaml").read_text()
    with pytest.raises(LoopError, match=f"{name}: .*{said}"):
        loop("pin", "card-fraud", "--source", name)
    assert (clone / "params.yaml").read_text() == before
    monkeypatch.setattr("models.card_fraud.source.read", lambda _: [], raising=False)
    assert loop("pin", "card-fraud", "--source", name).exit_code == 0
    assert section(clone)["ingest"]["sha256"] == sha256(clone / name)


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        ("own.parquet", ["--source", "own.parquet"], r"ingest of .*ingest\.source is 'own\.parquet'"),
        ("own.parquet", [], r"ingest\.source is `simulator`"),
        ({"source": 3}, [], r"3: no such file"),
        ({"source": None}, [], r"ingest\.source is `simulator`"),
    ],
)
def test_a_source_at_the_wrong_place_is_named(clone: Path, given: Any, options: list[str], said: str) -> None:
    """A file name in place of the section `ingest` or of its `source` is an error, and changes nothing."""
    pq.write_table(simulate(Params(cards=40, days=10)), clone / "own.parquet")
    with edited.rewriting(clone / "params.yaml") as document:
        document["models"]["card_fraud"]["ingest"] = given
    before = (clone / "params.yaml").read_text()
    with pytest.raises(LoopError, match=said):
        loop("pin", "card-fraud", *options)
    assert (clone / "params.yaml").read_text() == before


def test_a_source_that_only_this_machine_has_is_said(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If Git lacks the source, `pin` and `repro` warn, doctor calls it bad, `repro --check` rejects it."""
    pq.write_table(simulate(Params(cards=40, days=10)), clone / "own.parquet")
    monkeypatch.setattr(pipeline, "_repro", lambda *_: None)
    monkeypatch.setattr(pipeline, "_committed", lambda *_: None)
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.test")
    subprocess.run([*git, "init", "-q"], check=True)
    said = "is own.parquet, a file that only this machine has"
    warned = loop("pin", "card-fraud", "--source", "own.parquet").stderr
    assert f"{said}, so neither CI nor another person can train: commit it" in warned
    assert said in loop("repro", "card-fraud").stderr
    assert [finding.state for finding in doctor.models_of(clone) if said in finding.found] == ["bad"]
    with pytest.raises(Rejected, match=said):
        loop("repro", "card-fraud", "--check")
    subprocess.run([*git, "add", "own.parquet"], check=True)
    assert loop("repro", "card-fraud", "--check").exit_code == 0


def test_an_edit_of_a_pinned_file_is_said(clone: Path) -> None:
    """`repro` and doctor report an edited file, as no stage would run while params.yaml is the same."""
    pq.write_table(simulate(Params(cards=40, days=10)), clone / "own.parquet")
    loop("pin", "card-fraud", "--source", "own.parquet")
    pq.write_table(simulate(Params(cards=40, days=11)), clone / "own.parquet")
    said = "own.parquet: SHA-256 is"
    with pytest.raises(LoopError, match=said):
        loop("repro", "card-fraud")
    assert [finding.state for finding in doctor.models_of(clone) if said in finding.found] == ["bad"]


def test_pin_refuses_the_simulator(clone: Path) -> None:
    """A simulator has no bytes to pin, so the error says how to name a file."""
    with pytest.raises(LoopError, match=r"`simulator`[\s\S]*--source"):
        loop("pin", "card-fraud")


@pytest.fixture
def logs(clone: Path) -> Path:
    """Return a store with one file of rows."""
    (clone / "logs/transactions").mkdir(parents=True)
    rows = simulate(Params(cards=40, days=70))
    pq.write_table(rows.drop_columns(["TX_FRAUD"]), clone / "logs/transactions/a.parquet")
    return clone / "logs"


@pytest.mark.usefixtures("logs")
def test_retrain_of_a_random_split_adds_what_was_logged(clone: Path) -> None:
    """A random split has no window to move, so the split stays, and the store's files are listed."""
    params.edit(clone, {"models.card_fraud.split": {"kind": "random"}})
    loop("retrain", "card-fraud", "--until", "2018-06-01", "--reason", "weekly", "--store", "logs")
    now = section(clone)
    assert now["split"] == {"kind": "random"}
    assert now["ingest"]["logged"]["sha256"] == sha256(clone / "data/card_fraud/logged.json")


@pytest.mark.usefixtures("logs")
def test_retrain_moves_the_windows_to_what_is_known(clone: Path) -> None:
    """The test window ends where labels are known: at `until` minus the delay of the labels."""
    args = ["--until", "2018-06-01T14:00:00+02:00", "--reason", "drift", "--store", "logs"]
    args += ["--device", "cuda", "--days", "30"]
    loop("retrain", "card-fraud", *args)
    now = section(clone)
    listed = sha256(clone / "data/card_fraud/logged.json")
    assert now["ingest"]["logged"] == {"store": "logs", "until": "2018-06-01T12:00:00", "sha256": listed}
    assert now["split"]["until"] == "2018-05-25T12:00:00"
    assert now["split"]["train_days"] == 30
    assert now["train"]["device"] == "cuda"


def test_retrain_again_changes_nothing(clone: Path, logs: Path) -> None:
    """The same retraining a second time leaves params.yaml as it is, and says so.

    Files that reached the store since are added by `pin`, or by a later `--until`.
    """
    args = ("retrain", "card-fraud", "--until", "2018-06-01", "--reason", "weekly", "--store", "logs")
    loop(*args)
    first = (clone / "params.yaml").read_bytes()
    (logs / "transactions/b.parquet").write_bytes((logs / "transactions/a.parquet").read_bytes())
    assert "already" in loop(*args).stdout
    assert (clone / "params.yaml").read_bytes() == first
    assert "logged.sha256" in loop("pin", "card-fraud").stdout
    assert loop("stage", "ingest", "card-fraud").exit_code == 0


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("changes", "options", "named"),
    [
        ({"monitor": {"store": None}}, ["--until", "2018-06-01"], "monitor.store"),
        (
            {"split": {"kind": "random"}},
            ["--until", "2018-06-01", "--store", "logs", "--days", "9"],
            r"card_fraud\.split\.random\.train_days: is 9",
        ),
        ({}, ["--until", "yesterday", "--store", "logs"], "--until: is 'yesterday'"),
    ],
)
def test_retrain_refuses_what_it_cannot_do(
    changes: dict[str, Any], options: list[str], named: str, clone: Path
) -> None:
    """Without a store, a window or a valid time, the error names the key or option, and nothing changes."""
    params.edit(clone, {f"models.card_fraud.{key}": value for key, value in changes.items()})
    before = (clone / "params.yaml").read_bytes()
    with pytest.raises(LoopError, match=named):
        loop("retrain", "card-fraud", *options, "--reason", "drift")
    assert (clone / "params.yaml").read_bytes() == before


@pytest.mark.slow
def test_repro_ends_as_rejected_when_the_data_is_bad(clone: Path, cache: Path, template: Path) -> None:
    """If the data is bad, `repro` rejects it like `validate`, keeps the report, and trains nothing."""
    for name in ("loop", "tools", "requirements.lock"):
        (clone / name).symlink_to(template / name)
    (clone / ".dvc").mkdir()
    (clone / ".dvc/config").touch()
    subprocess.run(["git", "init", "-q"], cwd=clone, check=True)
    params.edit(clone, {"models.card_fraud.validate.suite": {"mean_amount": [500, 600]}})
    with pytest.raises(Rejected, match="nothing was trained") as error:
        loop("repro", "card-fraud")
    assert not error.value.fix  # the stage has printed it
    assert (clone / "build/card_fraud/validation/data_docs/index.html").exists()
    assert not (clone / "data/card_fraud/model").exists()


def test_repro_names_an_unknown_model(clone: Path) -> None:
    """An unknown model is an error that lists the models of params.yaml."""
    with pytest.raises(LoopError, match="it has card_fraud"):
        loop("repro", "no-such-model")


@pytest.mark.usefixtures("clone")
def test_training_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """If one of several models fails, the others are still trained, and the error names the failed one."""

    def repro(_: Path, model: str, current: set[str]) -> None:
        assert current == {"b"}
        if model == "a":
            raise LoopError("its source cannot be read")

    def registered(project: Project) -> Registered:
        return Registered(project.model, 1, "run", "md5")

    monkeypatch.setattr("loop.core.plain.read", lambda _: {"a": {}, "b": {}})
    monkeypatch.setattr("loop.core.dvc.current", lambda *_: {"b"})
    monkeypatch.setattr("loop.cli.pipeline._repro", repro)
    monkeypatch.setattr("loop.candidate.register.register", registered)
    done = CliRunner().invoke(pipeline.train, ["a", "b"])
    assert "registered b version 1" in done.output
    assert "1 of 2 models failed: a" in str(done.exception)
