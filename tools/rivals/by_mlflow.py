"""A model from code for `mlflow models serve`."""

from typing import Any

import mlflow
from scored import Model


class Scorer(mlflow.pyfunc.PythonModel):
    """Scores the rows of an array."""

    def load_context(self, context: Any) -> None:
        self.model = Model()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Scores of a list or a frame of rows."""
        return self.model.predict(model_input)[0]


mlflow.models.set_model(Scorer())
