"""Logistic regression over the words of a text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section

from .scorer import words


class Params(Section):
    """The parameter of scikit-learn's LogisticRegression."""

    c: float = Field(default=1.0, gt=0)  # inverse of the penalty


def fit(rows: Mapping[str, NDArray[Any]], opinions: NDArray[Any], params: Params) -> dict[str, float]:
    """Fit on n texts and (n,) classes, and return each word's weight, with the bias under the empty word."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    counts = CountVectorizer(analyzer=words)
    fitted = LogisticRegression(C=params.c).fit(counts.fit_transform(rows["text"]), opinions)
    weights = dict(zip(counts.get_feature_names_out().tolist(), fitted.coef_[0].tolist(), strict=True))
    return {**weights, "": float(fitted.intercept_[0])}


def save(fitted: dict[str, float], folder: Path) -> None:
    """Write words.json."""
    (folder / "words.json").write_bytes(msgspec.json.encode(fitted, order="sorted"))
