"""One model of a clone: its paths, and what the repository's files say about it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from loop.core import names

if TYPE_CHECKING:  # imported on first use, because most commands need only some of them
    from loop.core.dvc import Lock
    from loop.core.models import ModelFolder
    from loop.core.params import Model


def _path(folder: str, *names: str) -> cached_property[Path]:
    """Return a property with the path <root>/<folder>/<package>/<names>."""
    return cached_property(lambda project: Path(project.root, folder, project.package, *names))


@dataclass(frozen=True)
class Project:
    """One model of a clone. It reads each file once: after a change, create a new Project."""

    root: Path
    model: str  # the model's name, in either spelling

    @cached_property
    def package(self) -> str:
        return names.package(self.model)

    @cached_property
    def public(self) -> str:
        return names.public(self.model)

    @cached_property
    def params(self) -> "Model":
        """The model's section of params.yaml. Raises LoopError if it is missing or a key is wrong."""
        from loop.core import params

        return params.load(self.root, self.model)

    @cached_property
    def folder(self) -> "ModelFolder":
        """The model's code. Raises LoopError if src/models/<package> is missing or its schema is wrong."""
        from loop.core import models

        return models.load(self.root, self.model)

    @cached_property
    def lock(self) -> "Lock":
        """The clone's dvc.lock. Raises LoopError if it is invalid."""
        from loop.core.dvc import Lock

        return Lock.of(self.root)

    @property
    def model_md5(self) -> str:
        """The trained model's md5 in dvc.lock, which identifies it in releases, model registry and caches."""
        return self.lock.model_md5(self.model)

    @property
    def data_md5(self) -> str:
        """The md5 in dvc.lock of raw.parquet, the ingested rows that the model was made from."""
        return self.lock.md5(self.model, "raw.parquet")

    data = _path("data")  # folder with the outputs of the DVC stages
    raw = _path("data", "raw.parquet")
    logged = _path(
        "data", "logged.json"
    )  # production's logged files to train on; `retrain` and `pin` write it
    validation = _path("data", "validation")  # folder with quality.json and Great Expectations' Data Docs
    features = _path("data", "features.parquet")
    trained = _path("data", "model")  # folder with meta.json and the estimator's own files
    reference = _path("data", "reference.parquet")  # training rows, against which drift is measured
    scores = _path("data", "scores.parquet")
    metrics = _path("data", "metrics.json")
    plots = _path("data", "plots")
    build = _path("build")  # folder of the records that commands write for each other, which Git ignores
    source = _path("src/models")
    bento = _path("bentos")
