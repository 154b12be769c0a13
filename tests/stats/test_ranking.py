"""Metrics of rankings equal scikit-learn's or a count by hand, and entities are drawn as a whole."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from loop.stats import bootstrap
from loop.stats.metrics import Metric, Rows, hit_rate, ndcg, of

RANKED = of("ranking")


@st.composite
def rankings(draw):
    """Draw labels, scores and entities of some rows, with ties."""
    sizes = draw(st.lists(st.integers(2, 15), min_size=1, max_size=6))
    count = sum(sizes)
    stars = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    scores = draw(st.lists(st.integers(0, 8), min_size=count, max_size=count))
    users = np.repeat([f"u{number}" for number in range(len(sizes))], sizes)
    mixed = draw(st.permutations(range(count)))
    return tuple(
        np.array(side)[list(mixed)] for side in (np.array(stars, float), np.array(scores, float), users)
    )


@given(rankings())
def test_ndcg_is_scikit_learns(ranked):
    """NDCG is the mean of scikit-learn's over the entities that have any gain."""
    stars, scores, users = ranked
    each = [(stars[users == user], scores[users == user]) for user in np.unique(users)]
    wanted = [ndcg_score([labels], [given], k=10) for labels, given in each if labels.any()]
    found = RANKED["ndcg_at_10"].of(Rows(stars, scores, units=users))
    assert found == pytest.approx(np.mean(wanted) if wanted else 0.0)


@given(rankings())
def test_pairs_are_counted_within_an_entity(ranked):
    """Each pair of different labels in an entity counts once: right, wrong, or half for a tie."""
    stars, scores, users = ranked
    right, pairs = 0.0, 0
    for one, other in combinations(range(len(stars)), 2):
        if users[one] == users[other] and stars[one] != stars[other]:
            pairs += 1
            agree = (stars[one] - stars[other]) * (scores[one] - scores[other])
            right += 0.5 if agree == 0 else float(agree > 0)
    rows = Rows(stars, scores, units=users)
    if pairs:
        assert RANKED["pairwise_accuracy"].of(rows) == pytest.approx(right / pairs)
    else:
        with pytest.raises(ValueError, match="different labels"):
            RANKED["pairwise_accuracy"].of(rows)


def test_a_model_may_choose_another_number_of_places():
    """A fork's evaluation.py makes a metric of `ndcg` and `hit_rate` with its own number of places."""
    rows = Rows(np.array([3.0, 0.0, 1.0]), np.array([1.0, 3.0, 2.0]), units=np.array(["a"] * 3))
    wanted = ndcg_score([rows.labels], [rows.scores], k=2)
    assert Metric("ndcg_at_2", partial(ndcg, k=2)).of(rows) == pytest.approx(wanted)
    assert [Metric("hit", partial(hit_rate, k=k)).of(rows) for k in (2, 3)] == [0, 1]


def test_a_hit_stands_among_the_first_ten():
    """An entity is a hit if its best row is among the first ten, not if it is tied with too many others."""
    users = np.repeat(["a", "b", "c"], 12)
    stars = np.tile([5.0, *[0.0] * 11], 3)
    first, eleventh, tied = np.r_[20.0, range(11)], np.r_[0.5, range(11)], np.zeros(12)
    rows = Rows(stars, np.concatenate([first, eleventh, tied]), units=users)
    assert RANKED["hit_rate_at_10"].of(rows) == pytest.approx(1 / 3)


@given(rankings())
def test_a_draw_of_entities_is_that_of_their_rows(ranked):
    """A metric on counts equals the metric on repeated rows, in which each copy is an entity of its own."""
    stars, scores, users = ranked
    names = np.unique(users)
    times = np.arange(len(names)) % 3
    counts = times[np.searchsorted(names, users)]
    parts = [
        (stars[users == name], scores[users == name], f"{name}-{copy}")
        for name, count in zip(names, times, strict=True)
        for copy in range(count)
    ]
    if not parts:
        return
    labels, given_, entity = (
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] for part in parts]),
        np.concatenate([np.repeat(part[2], len(part[0])) for part in parts]),
    )
    for metric in RANKED.values():
        try:
            wanted = metric.of(Rows(labels, given_, units=entity))
        except ValueError:
            continue
        assert metric.prepare(Rows(stars, scores, units=users))(counts) == pytest.approx(wanted)


def test_the_bootstrap_draws_whole_entities():
    """A better ranking's interval is above zero; a ranking compared with itself has a difference of 0."""
    rng = np.random.default_rng(0)
    users, stars = np.repeat(np.arange(60), 8), rng.integers(0, 6, 480).astype(float)
    good, poor = stars + rng.normal(0, 1, 480), stars + rng.normal(0, 6, 480)
    worse, better = (Rows(stars, scores, units=users) for scores in (poor, good))
    metric = RANKED["pairwise_accuracy"]
    found = bootstrap.difference(worse, better, metric, samples=200)
    assert 0 < found.low < found.mean < found.high
    same = bootstrap.difference(better, better, metric, samples=200)
    assert (same.low, same.high) == (0, 0)
