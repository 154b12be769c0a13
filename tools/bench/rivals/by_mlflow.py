"""A model for `mlflow models serve`, one of the servers of bench_serving.py."""

import sys
from typing import Any

import mlflow
from scored import Model


class Scorer(mlflow.pyfunc.PythonModel):
    """Scores rows in MLflow's server."""

    def load_context(self, context: Any) -> None:
        self.model = Model()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Return the scores of a list or a data frame of rows."""
        return self.model.predict(model_input)[0]


if __name__ == "__main__":  # bench_serving.py runs this file to save the model that MLflow then serves
    mlflow.pyfunc.save_model(sys.argv[1], python_model=__file__, pip_requirements=[])
else:
    mlflow.models.set_model(Scorer())
