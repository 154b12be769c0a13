"""A model as a Python function for MLflow, which runs this file wherever it loads the model."""

import importlib.util
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Scored(PythonModel):  # type: ignore[misc]
    """Scores rows as the server does, with the scorer that was saved with the model."""

    def load_context(self, context: Any) -> None:
        """Load the scorer by its path, because several models in a process have a module of that name."""
        folder, code = Path(context.artifacts["model"]), context.artifacts["scorer"]
        spec = importlib.util.spec_from_file_location("scorer", code)
        assert spec  # noqa: S101 - a path that ends in .py always has a spec
        assert spec.loader  # noqa: S101
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.score = module.load(folder)
        self.meta = msgspec.json.decode((folder / "meta.json").read_bytes())

    # `predict` has no type hints, because MLflow warns about hints that it does not know.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Return scores of n rows, (n,) or (n, classes)."""
        if isinstance(model_input, np.ndarray):
            return self.score(model_input)
        return self.score({name: model_input[name].to_numpy() for name in self.meta["features"]})


set_model(Scored())
