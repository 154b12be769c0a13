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


def example(trained: Path) -> "NDArray[np.float64] | pd.DataFrame":
    """Return the example row of meta.json: an array if all features are numbers, otherwise a table."""
    import pandas as pd

    meta = read_json(trained / "meta.json")
    if isinstance(meta["example"], list):
        return np.array([meta["example"]], dtype=np.float64)
    inputs = msgspec.convert(meta["inputs"], list[Input])
    return pd.DataFrame({each.name: each.column([meta["example"][each.name]]) for each in inputs})


def save(folder: ModelFolder, trained: Path, **kwargs: Any) -> None:
    """Save the model as a Python function with its files, scorer.py and `loop.runtime`."""
    import mlflow.pyfunc

    above = library(folder.root).parent
    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "code" / "loop"  # the modules of the engine that a scorer may import
        (code / "runtime").mkdir(parents=True)
        for path in (above / "loop/__init__.py", *(above / "loop/runtime").glob("*.py")):
            shutil.copy(path, code / path.relative_to(above / "loop"))
        mlflow.pyfunc.save_model(
            python_model=str(Path(__file__).with_name("function.py")),
            artifacts={
                "model": str(trained),
                "scorer": str(folder.root / "src" / "models" / folder.name / "scorer.py"),
            },
            code_paths=[str(code)],
            **kwargs,
        )
