"""Vectors of words by latent semantic analysis (Deerwester et al., 1990): no label is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section

from .scorer import words


class Params(Section):
    dimensions: int = Field(default=6, gt=0)


def fit(rows: Mapping[str, NDArray[Any]], _: NDArray[Any], params: Params) -> dict[str, list[float]]:
    """Fit on n texts, and return each word's vector."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import CountVectorizer

    counts = CountVectorizer(analyzer=words)
    fitted = TruncatedSVD(params.dimensions, random_state=0).fit(counts.fit_transform(rows["text"]))
    return dict(zip(counts.get_feature_names_out().tolist(), fitted.components_.T.tolist(), strict=True))


def save(fitted: dict[str, list[float]], folder: Path) -> None:
    """Write words.json."""
    (folder / "words.json").write_bytes(msgspec.json.encode(fitted, order="sorted"))
