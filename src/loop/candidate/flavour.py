"""Saves a model in MLflow's format as a Python function that calls its scorer."""

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from loop.core.files import read_json
from loop.core.models import ModelFolder
from loop.core.paths import library
from loop.runtime.columns import Input

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

PACKAGES = ("loop", "loop/runtime")  # packages of the engine that a scorer may import


def example(trained: Path) -> "NDArray[np.float64] | pd.DataFrame":
    """Return the example row of meta.json for MLflow.

    It is an array if all features are numbers, otherwise a table.
    """
    import pandas as pd

    meta = read_json(trained / "meta.json")
    if isinstance(meta["example"], list):
        return np.array([meta["example"]], dtype=np.float64)
    return pd.DataFrame({each.name: each.column([meta["example"][each.name]]) for each in _inputs(meta)})


def rows(table: Any, trained: Path) -> Any:
    """Convert rows from MLflow to the form that a scorer takes."""
    if isinstance(table, np.ndarray):
        return table
    return {each.name: table[each.name].to_numpy() for each in _inputs(read_json(trained / "meta.json"))}


def save(folder: ModelFolder, trained: Path, **kwargs: Any) -> None:
    """Save the model as a Python function with its files, scorer.py and `loop.runtime`."""
    import mlflow.pyfunc

    above = library(folder.root).parent
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "code"
        for package in PACKAGES:
            (code / package).mkdir(parents=True)
            for path in (above / package).glob("*.py" if package == PACKAGES[-1] else "__init__.py"):
                shutil.copy(path, code / package)
        mlflow.pyfunc.save_model(
            python_model=str(Path(__file__).with_name("function.py")),
            artifacts={
                "model": str(trained),
                "scorer": str(folder.root / "src" / "models" / folder.name / "scorer.py"),
            },
            code_paths=[str(code / "loop")],
            **kwargs,
        )


def _inputs(meta: dict[str, Any]) -> list[Input]:
    return msgspec.convert(meta["inputs"], list[Input])
