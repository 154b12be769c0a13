"""`register` records a model in MLflow, here in an SQLite database."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trained import MODEL, OTHERWISE, change, commit, loop, release

from loop.candidate.register import register
from loop.candidate.tracking import Tracking, TrackingError
from loop.core import models
from loop.core.dvc import Lock
from loop.core.files import read_json
from loop.core.project import Project

pytestmark = pytest.mark.slow


@pytest.fixture
def client(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a client of the registry that `register` creates in the clone."""
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = f"sqlite:///{trained}/mlflow.db"
    mlflow.set_tracking_uri(uri)
    yield mlflow.MlflowClient(uri)
    mlflow.set_tracking_uri(None)


def runs(client: Any) -> list[Any]:
    """Return the experiment's runs that are not deleted."""
    experiment = client.get_experiment_by_name("card-fraud")
    return list(client.search_runs([experiment.experiment_id]))


def test_a_run_and_a_version_hold_what_git_and_dvc_know(trained: Path, client: Any):
    """A run has params, metrics, plots and lineage; its version loads by alias and scores as trained.

    The params are those of the training, even if params.yaml has changed since.
    """
    import mlflow

    change(trained, **OTHERWISE)
    entered = register(Project(trained, MODEL))
    run = client.get_run(entered.run_id)
    metrics = read_json(trained / "data/card_fraud/metrics.json")
    assert {"n_estimators": "20", "max_depth": "4"}.items() <= run.data.params.items()
    assert {name: metrics[name] for name in ("accuracy", "f1")}.items() <= run.data.metrics.items()
    assert {file.path for file in client.list_artifacts(entered.run_id, "plots")}
    assert run.inputs.dataset_inputs[0].dataset.digest == Lock.of(trained).md5(MODEL, "raw.parquet")
    version = client.get_model_version_by_alias(MODEL, "challenger")
    assert version.tags["model_md5"] == Lock.of(trained).model_md5(MODEL)
    assert version.tags["data_md5"] == Lock.of(trained).md5(MODEL, "raw.parquet")
    assert len(version.tags["commit"]) == 40
    loaded = mlflow.pyfunc.load_model(f"models:/{MODEL}@challenger")
    folder = trained / "data/card_fraud/model"
    example = np.array([read_json(folder / "meta.json")["example"]])
    assert loaded.metadata.signature is not None
    expected = models.load(trained, MODEL).scorer.load(folder)(example)
    np.testing.assert_allclose(loaded.predict(example), expected, rtol=1e-6)


def test_one_model_is_one_run_and_one_version(trained: Path, client: Any, monkeypatch: pytest.MonkeyPatch):
    """Registering the same model again adds nothing.

    After a killed `register`, the next one leaves one run and one version.
    """
    import mlflow

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "create_model_version", stopped)
        with pytest.raises(KeyboardInterrupt):
            register(Project(trained, MODEL))
    first = register(Project(trained, MODEL))
    assert register(Project(trained, MODEL)) == first
    assert [run.info.run_id for run in runs(client)] == [first.run_id]
    assert len(client.search_model_versions(f"name = '{MODEL}'")) == 1


def test_other_code_beside_the_same_weights_is_another_version(
    trained: Path, client: Any, recwarn: pytest.WarningsRecorder
):
    """The champion's alias stays at the version that production names. MLflow's advice is not printed."""

    def entered() -> dict[str, Any]:
        assert loop(trained, "register", MODEL).count("\n") == 1
        return read_json(Project(trained, MODEL).build / "register.json")

    source = Project(trained, MODEL).source
    scorer, estimator = source / "scorer.py", source / "estimator.py"
    estimator.write_text(estimator.read_text().replace("def save_to_mlflow", "def saved"))
    release(trained)
    first = entered()
    assert not [each for each in recwarn if "type hints" in str(each.message)]
    scorer.write_text(f"{scorer.read_text()}# changed\n")
    second = entered()
    assert (first["version"], second["version"], second["model_md5"]) == (1, 2, first["model_md5"])
    assert entered() == second
    kept = trained / f"mlartifacts/{second['run_id']}/artifacts/model/artifacts/scorer.py"
    assert kept.read_text() == scorer.read_text()
    aliases = {name: client.get_model_version_by_alias(MODEL, name) for name in ("champion", "challenger")}
    assert {name: int(each.version) for name, each in aliases.items()} == {"champion": 1, "challenger": 2}
    assert [aliases[name].tags["commit"] == "uncommitted" for name in aliases] == [False, True]


def test_a_version_whose_run_was_deleted_does_not_count(trained: Path, client: Any):
    """If a person deleted the run of a version, a new version is made, and is the champion, too."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    release(trained)
    first = register(Project(trained, MODEL))
    client.delete_run(first.run_id)
    second = register(Project(trained, MODEL))
    assert second.version == 2
    SqlAlchemyStore(f"sqlite:///{trained}/mlflow.db", str(trained))._hard_delete_run(first.run_id)
    assert register(Project(trained, MODEL)) == second
    assert int(client.get_model_version_by_alias(MODEL, "champion").version) == 2


def test_a_prompt_with_the_models_name_is_named(trained: Path, client: Any):
    """A registered model that exists and is not found is an error before anything is logged."""
    import mlflow

    Tracking.connect(trained)  # creates the database
    mlflow.genai.register_prompt(name=MODEL, template="{{x}}")
    with pytest.raises(TrackingError, match="already taken by a prompt"):
        register(Project(trained, MODEL))
    assert runs(client) == []


def test_a_model_that_is_committed_later_gets_its_commit(trained: Path, client: Any):
    """The champion's version keeps its alias beside the challenger's.

    Once the challenger's model is committed, the next call sets the commit.
    """
    register(Project(trained, MODEL))
    champion = release(trained)
    change(trained, **OTHERWISE)
    loop(trained, "repro", MODEL)
    entered = register(Project(trained, MODEL))
    known = client.get_model_version_by_alias(MODEL, "champion")
    assert known.tags["model_md5"] == champion.model_md5
    assert known.tags["commit"] == champion.commit
    assert known.tags["release_key"] == champion.key
    challenger = client.get_model_version_by_alias(MODEL, "challenger")
    assert (int(challenger.version), challenger.tags["commit"]) == (entered.version, "uncommitted")
    head = commit(trained, "Train otherwise")
    assert register(Project(trained, MODEL)) == entered
    for tags in (client.get_model_version(MODEL, entered.version), client.get_run(entered.run_id).data):
        assert tags.tags["commit"] == head
