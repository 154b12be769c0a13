"""Trains a logistic regression on the words and word pairs of a text.

A text is the set of its terms, each weighted by its rarity, scaled to length 1. Therefore short sentences and
long reviews fit into one model. A term that occurs far more often in one class is scaled up, as in *Baselines
and Bigrams* (Wang and Manning, 2012), by a degree that `naive_bayes` sets.
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
    c: float = Field(default=3.0, gt=0)  # inverse strength of logistic regression's penalty
    naive_bayes: Share = 0.5  # 0: a term's weight is its rarity; 1: rarity times naive Bayes' ratio
    # maximum number of terms in the model; words are kept before word pairs
    terms: int = Field(default=100_000, gt=0)
    rows: int = Field(default=5, gt=0)  # minimum number of training texts that contain a term
    long_terms: int = Field(default=100, gt=0)  # a text with at least this many terms is long
    long_weight: float = Field(default=2.0, gt=0)  # weight of a long text, because there are fewer long texts


def fit(rows: Mapping[str, NDArray[Any]], y: NDArray[Any], params: Params) -> Terms:
    """Fit on n texts and their classes (n,)."""
    from scipy import sparse  # SciPy and scikit-learn are imported only here, because they are slow to import
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    vectorizer = CountVectorizer(analyzer=terms, min_df=params.rows, dtype=np.float64)
    # counts are only 0 and 1, because `terms` returns each term once
    counts = vectorizer.fit_transform(rows["text"])
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
    """Write the fitted model to terms.json."""
    (folder / FILE).write_bytes(msgspec.json.encode(fitted, order="sorted"))
