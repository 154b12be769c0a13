"""Registers the candidate in MLflow: one run and one version per model and what is logged beside it.

Git and DVC record what is true; the model registry only displays it.
"""

import hashlib
import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from loop.candidate.champion import find
from loop.candidate.tracking import Tracking, TrackingError
from loop.core import edited, plain
from loop.core.dvc import Lock, check
from loop.core.errors import LoopError
from loop.core.files import plain_files, read_json, sha256, write_json
from loop.core.git import Git
from loop.core.models import ModelFolder
from loop.core.paths import library
from loop.core.project import Project
from loop.core.repository import masked
from loop.runtime import columns
from loop.runtime.columns import Input

ABANDONED = 24 * 3600  # seconds after which a run that is still RUNNING belongs to a killed process
UNCOMMITTED = "uncommitted"  # the tag `commit` of a model that no commit contains yet


@dataclass(frozen=True)
class Registered:
    """A version in the model registry, as build/<package>/register.json records it."""

    name: str
    version: int
    run_id: str
    model_md5: str


def register(project: Project) -> Registered:
    """Register the model in data/<package>/.

    Sets the alias `challenger`, and `champion` if the registry knows the model that production serves. The
    server is MLFLOW_TRACKING_URI, otherwise an SQLite database in `root`. The command may be killed at any
    time: the version is created last, and the next call replaces a run that failed earlier. Raises
    TrackingError, with cause and fix, if MLflow or its artifact store fails. Raises Rejected if an output
    differs from dvc.lock.
    """
    check(project)
    found, registry = find(project), _Registry.connect(project)
    entered = registry.entered()
    if found and (champion := registry.known(found.model_md5, named=found.mlflow)):
        registry.alias("champion", champion, {"release_key": found.key})
    registry.alias("challenger", entered, _verdict(project, entered))
    write_json(project.build / "register.json", asdict(entered))
    return entered


@dataclass(frozen=True)
class _Registry:
    """MLflow's tracking server and model registry, for one model."""

    server: Tracking
    project: Project
    name: str
    experiment_id: str

    @classmethod
    def connect(cls, project: Project) -> "_Registry":
        """Connect to MLflow, and create the experiment and the registered model if they do not exist.

        Raises LoopError if the experiment was deleted.
        """
        server, name = Tracking.connect(project.root), project.public
        title = project.params.register_.experiment
        experiment = server.found_or_made(
            ("get_experiment_by_name", title), ("create_experiment", title, server.artifacts)
        )
        if experiment.lifecycle_stage != "active":
            raise LoopError(
                f"MLflow at {masked(server.uri)}: the experiment {title!r} was deleted",
                fix=f"mlflow experiments restore --experiment-id {experiment.experiment_id}, "
                "or set another one in params.yaml: `register.experiment`",
            )
        server.found_or_made(
            ("search_registered_models", f"name = '{name}'"), ("create_registered_model", name)
        )
        return cls(server, project, name, experiment.experiment_id)

    def known(self, md5: str, *, content: str = "", named: str = "") -> Registered | None:
        """Return the version with this model md5, and content if given, or None.

        Of several it is the one that is `named`, such as `churn/3`, otherwise the oldest, because several
        processes may create one. A version whose run was deleted does not count.
        """
        which = f"name = '{self.name}' and tags.model_md5 = '{md5}'"
        versions = self.server.ask("search_model_versions", which)
        found = [each for each in versions if content in {"", each.tags.get("content")}]
        found.sort(key=lambda version: (f"{self.name}/{version.version}" != named, int(version.version)))
        first = next((each for each in found if self._active(each.run_id)), None)
        return Registered(self.name, int(first.version), first.run_id, md5) if first else None

    def _active(self, run_id: str) -> bool:
        """Return whether a run exists and is not deleted; `mlflow gc` removes the files of deleted runs."""
        try:
            return bool(self.server.ask("get_run", run_id).info.lifecycle_stage == "active")
        except TrackingError as error:
            if getattr(error.__cause__, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False

    def entered(self) -> Registered:
        """Return the version of the model, created if it is new.

        If several processes register the same model, each creates its own run and version, and all but the
        lowest version are deleted. So no process waits for another, or deletes what a running process may
        need.
        """
        project, commit = self.project, _commit(self.project)
        md5, content = project.model_md5, _content(project)
        if known := self.known(md5, content=content):
            # the process that created the version may have been killed before it ended the run
            run = self._end(known.run_id)
            if run.data.tags.get("commit") == UNCOMMITTED != commit:
                self.server.ask("set_model_version_tag", self.name, str(known.version), "commit", commit)
                self.server.ask("set_tag", known.run_id, "commit", commit)
            return known
        self._remove_dead(md5)
        tags = {
            "model_md5": md5,
            "content": content,
            "data_md5": project.data_md5,
            "commit": commit,
            "dvc_lock": sha256(project.root / "dvc.lock"),
        }
        made = self._logged(tags)
        first = self.known(md5, content=content) or made
        if first != made:
            self.server.ask("delete_model_version", self.name, str(made.version))
            self.server.ask("delete_run", made.run_id)
        return first

    def alias(self, alias: str, version: Registered, tags: dict[str, str]) -> None:
        """Point an alias at a version, and set its tags."""
        for key, value in tags.items():
            self.server.ask("set_model_version_tag", self.name, str(version.version), key, value)
        self.server.ask("set_registered_model_alias", self.name, alias, str(version.version))

    def _logged(self, tags: dict[str, str]) -> Registered:
        """Log a run from the outputs of the stages and create its version.

        The run is RUNNING until its version is created, and FAILED after an error. Raises LoopError if a link
        is among the logged files, because MLflow would log its target.
        """
        project, ask = self.project, self.server.ask
        read = (path.relative_to(project.root).as_posix() for path in (project.trained, project.plots))
        plain_files(project.root, *read)
        from mlflow.tracking.context.registry import resolve_tags

        given = resolve_tags(tags)  # adds the tags that MLflow itself would set: the user and the source file
        run = ask("create_run", self.experiment_id, tags=given, run_name=tags["model_md5"][:12]).info
        try:
            at = run.artifact_uri
            for batch in _batches(project):
                ask("log_batch", run.run_id, **batch)
            ask("log_inputs", run.run_id, [_dataset(project, tags["data_md5"])])
            ask("log_artifact", run.run_id, str(project.trained / "meta.json"), at=at)
            if project.plots.is_dir():
                ask("log_artifacts", run.run_id, str(project.plots), "plots", at=at)
            with tempfile.TemporaryDirectory() as scratch:
                saved = _saved(project, Path(scratch) / "model", run.run_id)
                ask("log_artifacts", run.run_id, str(saved), saved.name, at=at)
            made = ask("create_model_version", self.name, f"{at}/{saved.name}", run.run_id, tags=tags)
        except BaseException:
            with suppress(LoopError):  # an error in ending the run must not hide the first error
                self._end(run.run_id, "FAILED")
            raise
        self._end(run.run_id)
        return Registered(self.name, int(made.version), run.run_id, tags["model_md5"])

    def _end(self, run_id: str, status: str = "FINISHED") -> Any:
        run = self.server.ask("get_run", run_id)
        if run.info.status == "RUNNING":
            self.server.ask("set_terminated", run_id, status)
        return run

    def _remove_dead(self, md5: str) -> None:
        """Delete runs for this model that failed or were abandoned before they created a version."""
        long_ago = (time.time() - ABANDONED) * 1000
        for run in self.server.ask("search_runs", [self.experiment_id], f"tags.model_md5 = '{md5}'"):
            abandoned = run.info.status == "RUNNING" and run.info.start_time < long_ago
            if run.info.status == "FAILED" or abandoned:
                self.server.ask("delete_run", run.info.run_id)


def _content(project: Project) -> str:
    """Return 12 hex digits of a SHA-256 over what is logged beside the model: code, packages, results."""
    beside = tuple(str(path.relative_to(project.root)) for path in (project.metrics, project.plots))
    logged = [
        {path: md5 for path, md5 in project.lock.outs(project.model).items() if path.startswith(beside)},
        _params(project),
        project.data_md5,
        edited.locked(_lock(project)),
        [sha256(path) for path in _code(project)],
    ]
    return hashlib.sha256(json.dumps(logged, sort_keys=True).encode()).hexdigest()[:12]


def _saved(project: Project, to: Path, run_id: str) -> Path:
    """Save the model in its MLflow flavour, with signature, example and the server's packages.

    It is saved as files of the run, not as a logged model of MLflow 3, because MLflow 2 and Azure ML do not
    have logged models.
    """
    from mlflow.models import Model, infer_signature

    folder, row = project.folder, example(project.trained)
    score = folder.scorer.load(project.trained)
    given = row if isinstance(row, np.ndarray) else {name: row[name].to_numpy() for name in row}
    save = getattr(folder.estimator, "save_to_mlflow", partial(_save_function, folder))
    save(
        project.trained,
        path=str(to),
        mlflow_model=Model(artifact_path=to.name, run_id=run_id),
        signature=infer_signature(row, np.asarray(score(given))),
        input_example=row,
        pip_requirements=edited.locked(_lock(project)),
    )
    return to


def example(trained: Path) -> Any:
    """Return the example row of meta.json: an array if all features are numbers, else a pandas.DataFrame."""
    import pandas as pd

    meta = read_json(trained / "meta.json")
    if isinstance(meta["example"], list):
        return np.array([meta["example"]], dtype=np.float64)
    inputs = msgspec.convert(meta["inputs"], list[Input])
    return pd.DataFrame(columns.row(inputs, meta["example"]))


def _save_function(folder: ModelFolder, trained: Path, **kwargs: Any) -> None:
    """Save the model as a Python function with its files, scorer.py and `loop.runtime`."""
    import mlflow.pyfunc

    scorer = folder.root / "src" / "models" / folder.name / "scorer.py"
    with tempfile.TemporaryDirectory() as scratch:
        modules = Path(scratch) / "code" / "loop"
        (modules / "runtime").mkdir(parents=True)
        for path in _runtime(folder.root):
            shutil.copy(path, modules / path.relative_to(library(folder.root)))
        mlflow.pyfunc.save_model(
            python_model=str(Path(__file__).with_name("function.py")),
            artifacts={"model": str(trained), "scorer": str(scorer)},
            code_paths=[str(modules)],
            **kwargs,
        )


def _runtime(root: Path) -> list[Path]:
    """Return the modules of the engine that a scorer may import."""
    files = plain_files(library(root).parent, "loop/__init__.py", "loop/runtime")
    return [path for path in files if path.suffix == ".py"]


def _code(project: Project) -> list[Path]:
    """Return the files that decide what MLflow gets beside the model, by a flavour or as a function."""
    own = (f"src/models/{project.package}/{module}.py" for module in ("estimator", "scorer"))
    return plain_files(project.root, *own) + _runtime(project.root)


def _lock(project: Project) -> Path:
    """Return the path of the lock of the server's packages."""
    return project.root / plain.serving_lock(project.model, plain.device(project))


def _batches(project: Project) -> Iterator[dict[str, Any]]:
    """Yield arguments for log_batch, each with at most 100 params, which is MLflow's limit.

    Characters that MLflow does not allow in names of metrics are replaced.
    """
    from mlflow.entities import Metric, Param

    now, measured = int(time.time() * 1000), read_json(project.metrics)
    numbers = {name: value for name, value in measured.items() if isinstance(value, int | float)}
    names = {name: re.sub(r"[^\w./ -]", "_", name) for name in numbers}
    yield {"metrics": [Metric(names[name], float(value), now, 0) for name, value in numbers.items()]}
    every = [Param(name, value) for name, value in _params(project).items()]
    for begin in range(0, len(every), 100):
        yield {"params": every[begin : begin + 100]}


def _params(project: Project) -> dict[str, str]:
    """Return the params of the training; those of features and split become `features.…` and `split.…`."""
    recorded = project.lock.params(project.model)
    named = dict(recorded.get("train") or {})
    for part in ("features", "split"):
        named |= {f"{part}.{key}": value for key, value in (recorded.get(part) or {}).items()}
    return {name: str(value) for name, value in named.items()}


def _dataset(project: Project, md5: str) -> Any:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    path = project.raw.relative_to(project.root).as_posix()
    source = CodeDatasetSource({"dvc": path, "md5": md5})
    described = Dataset(path, md5, "code", source.to_json())
    return DatasetInput(described, [InputTag("mlflow.data.context", "training")])


def _commit(project: Project) -> str:
    """Return HEAD's id if it has this model with its code and packages, otherwise `uncommitted`."""
    git = Git(project.root)
    committed = Lock.parse(git.read("HEAD", "dvc.lock") or "")
    try:
        recorded = committed.model_md5(project.model)
    except LoopError:
        return UNCOMMITTED
    changes = git.run("status", "--porcelain", "--", str(project.source), str(_lock(project)))
    return UNCOMMITTED if changes or recorded != project.model_md5 else git.head()


def _verdict(project: Project, entered: Registered) -> dict[str, str]:
    """Return the gate's verdict as a tag for the version, if the gate has judged this model."""
    record = project.build / "gate.json"
    if record.is_file() and (gate := read_json(record))["challenger"]["model_md5"] == entered.model_md5:
        return {"verdict": gate["verdict"]}
    return {}
