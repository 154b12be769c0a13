"""Ridge regression over encoded flats."""

from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section

from .scorer import TEXTS, Columns, Weights, encode


class Params(Section):
    """The parameter of scikit-learn's Ridge."""

    penalty: float = Field(default=1.0, ge=0)


def fit(flats: Columns, rents: NDArray[np.float64], params: Params) -> Weights:
    """Fit on n flats and their (n,) rents."""
    from sklearn.linear_model import Ridge

    values = {name: sorted({text for text in flats[name] if text is not None}) for name in TEXTS}
    area = float(np.nanmean(flats["area"]))
    fitted = Ridge(params.penalty).fit(encode(flats, values, area), rents)
    return Weights(values, area, fitted.coef_.tolist(), float(fitted.intercept_))


def save(fitted: Weights, folder: Path) -> None:
    """Write weights.json."""
    (folder / "weights.json").write_bytes(msgspec.json.encode(fitted))
