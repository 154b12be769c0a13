"""A model as a Python function for MLflow, which runs this file wherever it loads the model."""

import runpy
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
        folder = Path(context.artifacts["model"])
        self.score = runpy.run_path(context.artifacts["scorer"])["load"](folder)
        self.meta = msgspec.json.decode((folder / "meta.json").read_bytes())

    # MLflow warns if the rows have no type hint, and derives no schema from this one.
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        """Return scores of n rows, (n,) or (n, classes)."""
        if isinstance(model_input, np.ndarray):
            return self.score(model_input)
        return self.score({name: model_input[name].to_numpy() for name in self.meta["features"]})


set_model(Scored())
