"""Enters the candidate in MLflow: one run and one registered version a model md5, however often it is called.

Git and DVC hold the facts; a registry only shows them. So an empty one is no harm: the champion that
production names is entered again, with its run, tags and alias.
"""

import logging
import os
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loop.candidate import champion as champions
from loop.candidate.champion import Champion, own_loop
from loop.candidate.score import same_code
from loop.core import models, params
from loop.core.dvc import Lock, check
from loop.core.errors import LoopError
from loop.core.files import plain_files, read_json, sha256, whole, write_json
from loop.core.git import Git
from loop.core.models import ModelFolder
from loop.core.names import public
from loop.core.paths import ModelPaths


@dataclass(frozen=True)
class Registered:
    """A registered version, as build/<package>/register.json names it."""

    name: str
    version: int
    run_id: str
    experiment: str
    model_md5: str


def register(root: Path, model: str) -> Registered:
    """Enter the model that the stages left in data/<package>/, and the champion where the registry lacks it.

    Sets the aliases `challenger` and `champion`. The server is MLFLOW_TRACKING_URI, else SQLite in `root`.
    Safe to kill: the version is made last, and a run that has none is replaced by the next call.
    """
    check(root, model)
    found = champions.find(root, model)
    registry = _Registry.connect(root, model)
    if found and found.model_md5 != Lock.of(root).model_md5(model):
        registry.alias("champion", _restored(registry, root, model, found), {"release_key": found.key})
    entered = registry.entered(root, _commit(root, model))
    if found and found.model_md5 == entered.model_md5:
        registry.alias("champion", entered, {"release_key": found.key})
    registry.alias("challenger", entered, _verdict(root, model, entered))
    write_json(ModelPaths(root, model).build / "register.json", asdict(entered))
    return entered


def _restored(registry: "_Registry", root: Path, model: str, found: Champion) -> Registered:
    """The champion's version; entered from a checkout of its commit when the registry does not know it."""
    if known := registry.known(found.model_md5):
        return known
    with champions.checkout(root, model, found) as tree:
        if not same_code(root, tree, model):
            own_loop(tree, "register", public(model), MLFLOW_TRACKING_URI=registry.uri)
        return registry.entered(tree, found.commit)


@dataclass(frozen=True)
class _Registry:
    """MLflow's tracking server and model registry, for one model."""

    client: Any
    uri: str
    folder: ModelFolder  # whose code loads a model to log it
    name: str
    experiment: str
    experiment_id: str

    @classmethod
    def connect(cls, root: Path, model: str) -> "_Registry":
        """Open, and make, the experiment and the registered model."""
        mlflow = _mlflow()
        given = os.environ.get("MLFLOW_TRACKING_URI")
        uri = given or _own_database(root / "mlflow.db")
        mlflow.set_tracking_uri(uri)
        client, name = mlflow.MlflowClient(), public(model)
        experiment = params.load(root, model).register_.experiment
        known = client.get_experiment_by_name(experiment)
        artifacts = None if given else (root / "mlartifacts").as_uri()
        made = (
            known.experiment_id
            if known
            else client.create_experiment(experiment, artifact_location=artifacts)
        )
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        return cls(client, uri, models.load(root, model), name, experiment, made)

    def known(self, md5: str) -> Registered | None:
        """The version of this md5; the oldest, should two machines have made one each."""
        versions = self.client.search_model_versions(f"name = '{self.name}' and tags.model_md5 = '{md5}'")
        if not versions:
            return None
        first = min(versions, key=lambda version: int(version.version))
        return Registered(self.name, int(first.version), first.run_id, self.experiment, md5)

    def entered(self, root: Path, commit: str) -> Registered:
        """The version of the model in `root`, made now if it is new."""
        lock = Lock.of(root)
        md5 = lock.model_md5(self.name)
        if known := self.known(md5):
            return known
        tags = {
            "model_md5": md5,
            "data_md5": lock.data_md5(self.name),
            "commit": commit,
            "dvc_lock": sha256(root / "dvc.lock"),
        }
        for leftover in self.client.search_runs([self.experiment_id], f"tags.model_md5 = '{md5}'"):
            self.client.delete_run(leftover.info.run_id)
        run_id, source = _log(self.folder, ModelPaths(root, self.name), self.experiment_id, tags)
        made = self.client.create_model_version(self.name, source, run_id, tags=tags)
        return Registered(self.name, int(made.version), run_id, self.experiment, md5)

    def alias(self, alias: str, version: Registered, tags: dict[str, str]) -> None:
        """Point an alias at a version, and tag it with what is known by now."""
        for key, value in tags.items():
            self.client.set_model_version_tag(self.name, str(version.version), key, value)
        self.client.set_registered_model_alias(self.name, alias, str(version.version))


def _own_database(path: Path) -> str:
    """SQLite at `path`, made aside: one whose tables were half made would be refused ever after."""
    if not path.exists():
        with whole(path) as aside:
            _mlflow().MlflowClient(f"sqlite:///{aside}").search_experiments()
    return f"sqlite:///{path}"


def _log(folder: ModelFolder, paths: ModelPaths, experiment: str, tags: dict[str, str]) -> tuple[str, str]:
    """Log one run from what the stages left; returns its id and the logged model's URI.

    LoopError for a link among it: MLflow would log what it points to.
    """
    plain_files(
        paths.root, *(path.relative_to(paths.root).as_posix() for path in (paths.trained, paths.plots))
    )
    mlflow = _mlflow()
    with mlflow.start_run(experiment_id=experiment, run_name=tags["model_md5"][:12], tags=tags) as run:
        mlflow.log_params(_params(paths))
        mlflow.log_metrics(_metrics(paths))
        mlflow.log_input(_dataset(paths, tags["data_md5"]), context="training")
        mlflow.log_artifact(str(paths.trained / "meta.json"))
        if paths.plots.is_dir():
            mlflow.log_artifacts(str(paths.plots), "plots")
        info = _log_model(folder, paths)
    return run.info.run_id, info.model_uri


def _log_model(folder: ModelFolder, paths: ModelPaths) -> Any:
    """Log the model in its estimator's own flavour, with signature, example and the service's packages."""
    import mlflow.models

    example = np.array([read_json(paths.trained / "meta.json")["example"]])
    scored = np.asarray(folder.estimator.load(paths.trained)(example))
    return folder.estimator.log_to_mlflow(
        paths.trained,
        name="model",
        signature=mlflow.models.infer_signature(example, scored),
        input_example=example,
        pip_requirements=_packages(paths.bento / "requirements.lock"),
    )


def _packages(lock: Path) -> list[str]:
    """`name==version` of every package that the service is locked to; without them MLflow would guess."""
    if not lock.is_file():
        raise LoopError(f"{lock} does not exist", fix="copy another bento's folder, or `make lock`")
    return re.findall(r"^[A-Za-z0-9._-]+==[^\s;\\]+", lock.read_text(encoding="utf-8"), re.MULTILINE)


def _params(paths: ModelPaths) -> dict[str, Any]:
    """The training params under their own names; those of features and split as `features.…`, `split.…`."""
    section = params.read(paths.root)[paths.package]
    others = {
        f"{part}.{key}": value
        for part in ("features", "split")
        for key, value in (section.get(part) or {}).items()
    }
    return {**(section.get("train") or {}), **others}


def _metrics(paths: ModelPaths) -> dict[str, float]:
    """metrics.json, flat; a name keeps only what MLflow allows in one."""
    numbers = {
        name: value for name, value in read_json(paths.metrics).items() if isinstance(value, int | float)
    }
    return {re.sub(r"[^\w./ -]", "_", name): float(value) for name, value in numbers.items()}


def _dataset(paths: ModelPaths, md5: str) -> Any:
    """The raw rows, by name and DVC's md5."""
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    path = paths.raw.relative_to(paths.root).as_posix()
    return MetaDataset(CodeDatasetSource({"dvc": path, "md5": md5}), name=path, digest=md5)


def _commit(root: Path, model: str) -> str:
    """HEAD, if its dvc.lock records this model; a model that no commit records yet is `uncommitted`."""
    git = Git(root)
    committed = Lock.parse(git.read("HEAD", "dvc.lock") or "")
    try:
        recorded = committed.model_md5(model)
    except LoopError:
        return "uncommitted"
    return git.head() if recorded == Lock.of(root).model_md5(model) else "uncommitted"


def _verdict(root: Path, model: str, entered: Registered) -> dict[str, str]:
    """The gate's verdict on this very model, if it has been asked, and the commit as known by now."""
    record = ModelPaths(root, model).build / "gate.json"
    commit = {"commit": _commit(root, model)}
    if not record.is_file():
        return commit
    gate = read_json(record)
    judged = gate["challenger"]["model_md5"] == entered.model_md5
    return {**commit, "verdict": gate["verdict"]} if judged else commit


def _mlflow() -> Any:
    """MLflow, imported late as it takes seconds; nothing sent to its makers, its chatter turned down."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"mlflow\..*")
    return mlflow
