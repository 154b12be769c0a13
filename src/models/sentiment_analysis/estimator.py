"""Logistic regression over the words and pairs of words of a text.

A text is the set of its terms, each weighted by its rarity, scaled to length 1: so sentences and reviews of
many pages fit into one model. A term that stands in one class far more often than in the other is scaled up,
as in *Baselines and Bigrams* (Wang and Manning, 2012), by a part that `naive_bayes` sets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.params import Section, Share

from .scorer import FILE, Terms, terms


class Params(Section):
    c: float = Field(default=3.0, gt=0)  # inverse of the penalty
    naive_bayes: Share = 0.5  # 0: terms count by their rarity alone; 1: by rarity times naive Bayes' ratio
    terms: int = Field(default=100_000, gt=0)  # kept at most: every word comes before any pair
    rows: int = Field(default=5, gt=0)  # that a term stands in at least
    long_terms: int = Field(default=100, gt=0)  # a text with at least this many terms is long
    long_weight: float = Field(default=2.0, gt=0)  # rows that a long text counts as: there are fewer of them


def fit(rows: Mapping[str, NDArray[Any]], y: NDArray[Any], params: Params) -> Terms:
    """Fit on n texts and (n,) classes."""
    from scipy import sparse  # here, as they take long to import
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    vectorizer = CountVectorizer(analyzer=terms, min_df=params.rows, dtype=np.float64)
    counts = vectorizer.fit_transform(rows["text"])  # 0 and 1, as `terms` gives each once
    names = vectorizer.get_feature_names_out()
    negative, positive = (np.asarray(counts[y == label].sum(axis=0)).ravel() for label in (0, 1))
    ratio = np.abs(np.log((positive + 1) / positive.sum()) - np.log((negative + 1) / negative.sum()))
    seen = negative + positive
    rank = ratio * np.sqrt(seen) + np.array([0 if " " in name else np.inf for name in names])
    kept = np.sort(np.argsort(-rank, kind="stable")[: params.terms])
    rarity = np.log((1 + len(y)) / (1 + seen[kept])) + 1
    scale = 1 - params.naive_bayes + params.naive_bayes * ratio[kept]
    x = normalize(counts[:, kept] @ sparse.diags(rarity)) @ sparse.diags(scale)
    weighs = np.where(np.diff(counts.indptr) >= params.long_terms, params.long_weight, 1.0)
    fitted = LogisticRegression(C=params.c, solver="liblinear", tol=1e-3).fit(x, y, weighs)
    weights = fitted.coef_[0] * scale * rarity
    pairs = zip((rarity**2).round(4).tolist(), weights.round(4).tolist(), strict=True)
    return Terms(float(fitted.intercept_[0]), dict(zip(names[kept].tolist(), pairs, strict=True)))


def save(fitted: Terms, folder: Path) -> None:
    """Write terms.json."""
    (folder / FILE).write_bytes(msgspec.json.encode(fitted, order="sorted"))
