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


@dataclass(frozen=True)
class Project:
    """One model of a clone.

    Each file is read once: after a change of params.yaml or dvc.lock, create a new Project.
    """

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
        return self.lock.data_md5(self.model)

    @cached_property
    def data(self) -> Path:
        """Folder with the outputs of the DVC stages."""
        return self.root / "data" / self.package

    @property
    def raw(self) -> Path:
        return self.data / "raw.parquet"

    @property
    def logged(self) -> Path:
        """List of production's logged files to train on.

        `loop retrain` and `loop pin` write it, and Git tracks it.
        """
        return self.data / "logged.json"

    @property
    def validation(self) -> Path:
        """Folder with quality.json and Great Expectations' Data Docs."""
        return self.data / "validation"

    @property
    def features(self) -> Path:
        return self.data / "features.parquet"

    @property
    def trained(self) -> Path:
        """Folder with the trained model: meta.json and the estimator's own files."""
        return self.data / "model"

    @property
    def reference(self) -> Path:
        """Sample of the training rows, against which drift is measured."""
        return self.data / "reference.parquet"

    @property
    def scores(self) -> Path:
        return self.data / "scores.parquet"

    @property
    def metrics(self) -> Path:
        return self.data / "metrics.json"

    @property
    def plots(self) -> Path:
        return self.data / "plots"

    @property
    def build(self) -> Path:
        """Folder of the records that commands such as gate, bento and image write for each other.

        Git ignores it.
        """
        return self.root / "build" / self.package

    @property
    def source(self) -> Path:
        return self.root / "src" / "models" / self.package

    @property
    def bento(self) -> Path:
        return self.root / "bentos" / self.package
