"""A recommender stops bad data, refuses bad requests, and ranks films by their viewers."""

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from loop.core import models
from loop.core.params import PublishedSplit
from loop.core.project import Project
from loop.monitoring.quality import quality
from loop.pipeline import features, split, validate
from loop.runtime.columns import BadRow
from models.recommendation import estimator, evaluation, expectations, scorer, source

pytestmark = pytest.mark.contract
USERS, FILMS = 40, 150  # a user watches films of one kind, with even or with odd ids
LATER = datetime(2030, 1, 1)  # noqa: DTZ001 - times of rows are UTC, without a zone


@pytest.fixture(scope="module")
def folder(repository):
    return models.load(repository, "recommendation")


@pytest.fixture(scope="module")
def ratings():
    """Return a thousand ratings in the format of MovieLens."""
    rng = np.random.default_rng(0)
    films = [1 + user % 2 + 2 * rng.choice(FILMS // 2, 25, replace=False) for user in range(USERS)]
    columns = {
        "userId": np.repeat(np.arange(1, USERS + 1), 25),
        "movieId": np.concatenate(films),
        "rating": rng.integers(5, 11, USERS * 25) / 2,
        "timestamp": 1_000_000_000 + rng.integers(0, 1_000, USERS * 25),
    }
    return pd.DataFrame(columns)


def read(ratings, folder):
    """Return the rows that the source makes of ratings."""
    ratings.to_parquet(folder / "ratings.parquet")
    return pa.concat_tables(source.read({"ratings": folder / "ratings.parquet"}))


@pytest.fixture(scope="module")
def rows(ratings, tmp_path_factory):
    return read(ratings, tmp_path_factory.mktemp("ratings"))


@pytest.fixture(scope="module")
def trained(rows, folder, tmp_path_factory):
    """Return the features, and a scorer that was fitted on those of the training part."""
    table = features.compute(folder, rows, folder.section("features", {}))
    part = table.filter(pa.array(split.masks(table, folder.roles, PublishedSplit(kind="published"))[0]))
    fitted = estimator.fit(
        split.values(part, ["history", "film"]), part["watched"].to_numpy(), estimator.Params(ridge=10)
    )
    out = tmp_path_factory.mktemp("model")
    estimator.save(fitted, out)
    return table, scorer.load(out)


def setting(column, value):
    """Return a function that sets a column's value in the first ten rows, which include test rows."""
    return lambda t: t.assign(**{column: t[column].astype(object).where(t.index >= 10, value)})


def leak(t):
    """Add a film of the test part to the training part, as if its user had watched it there, too."""
    test = t[(t.part == "test") & (t.watched == 1)].head(1)
    return pd.concat([t, test.assign(id="again", part="train", at=t["at"].min())])


BAD = {
    "a column is missing": (lambda t: t.drop(columns="rating"), "TableColumnsToMatchSet"),
    "hardly a row": (lambda t: t.head(3), "TableRowCountToBeBetween"),
    "an id comes twice": (setting("id", "1-1"), "ColumnValuesToBeUnique"),
    "no user": (setting("user", None), "ColumnValuesToNotBeNull"),
    "no time": (setting("at", None), "ColumnValuesToNotBeNull"),
    "a negative film": (setting("film", -5), "ColumnValuesToBeBetween"),
    "a rating to come": (setting("at", LATER), "ColumnValuesToBeBetween"),
    "a film of the test in a history": (leak, "CompoundColumnsToBeUnique"),
    "a part that is none": (setting("part", "valid"), "ColumnValuesToBeInSet"),
    "a rating of 11 stars": (setting("rating", 11.0), "ColumnValuesToBeInSet"),
    "stars up to 10": (lambda t: t.assign(rating=t.rating * 2), "ColumnMeanToBeBetween"),
    "stars as the label": (lambda t: t.assign(watched=t.rating.fillna(0)), "ColumnValuesToBeInSet"),
    "nothing but ratings": (lambda t: t[t.watched == 1], "ColumnMeanToBeBetween"),
}


def examined(frame, folder):
    table = pa.Table.from_pandas(frame, preserve_index=False)
    suite = expectations.suite(expectations.Params(), PublishedSplit(kind="published"))
    return validate.examine(table, suite, folder.name, folder.roles)


@pytest.mark.parametrize(("spoil", "check"), BAD.values(), ids=BAD)
def test_bad_data_is_stopped(spoil, check, rows, folder):
    """Each kind of bad data fails a critical check that is meant for it."""
    assert f"Expect{check}" in {one.check for one in examined(spoil(rows.to_pandas()), folder).critical}


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [
        ("userId", None, "ColumnValuesToNotBeNull"),
        ("userId", -3, "ColumnValuesToBeBetween"),
        ("movieId", None, "ColumnValuesToNotBeNull"),
        ("timestamp", None, "ColumnValuesToNotBeNull"),
        ("timestamp", 2_000_000_000, "ColumnValuesToBeBetween"),
        ("timestamp", 1_000_000_000_000, "ColumnValuesToBeBetween"),
    ],
)
def test_a_bad_rating_reaches_the_checks(column, value, check, ratings, folder, tmp_path):  # noqa: PLR0917 - fixtures
    """A missing or impossible user, film or time of a rating is read, and then stopped by a check."""
    given = ratings[column].astype("Int64")
    given[5] = value
    report = examined(read(ratings.assign(**{column: given}), tmp_path).to_pandas(), folder)
    assert f"Expect{check}" in {one.check for one in report.critical}


def test_good_data_passes(rows, folder):
    """Ratings of whole and half stars, with each user and film once, pass every check."""
    assert examined(rows.to_pandas(), folder).failed == []


def test_logged_rows_pass(rows, folder):
    """Logged rows have neither part nor rating, are later, may name a film again, and pass every check."""
    logged = rows.to_pandas().head(50).assign(part=None, rating=np.nan, at=LATER)
    tables = [
        pa.Table.from_pandas(
            logged.assign(id=logged.id + f"-{time}", watched=label), rows.schema, preserve_index=False
        )
        for time, label in enumerate((1.0, 0.0, None))
    ]
    assert examined(pa.concat_tables([rows, *tables]).to_pandas(), folder).failed == []


def test_production_rows_are_of_good_quality(repository):
    """Production's rows are few and have no part or label, so checks for training data do not apply."""
    rows = pa.table({"id": ["a", "b"], "at": [datetime(2016, 5, 1)] * 2, "user": [900, 901], "film": [1, 2]})  # noqa: DTZ001
    assert quality(Project(repository, "recommendation"), rows, LATER).score == 1
    bad = rows.set_column(3, "film", pa.array([1, -2]))
    assert quality(Project(repository, "recommendation"), bad, LATER).score == 0.5


def test_no_test_film_is_in_a_history(rows, trained):
    """A test row's history has the films that its user watched in the training part, in the order of time."""
    watched = rows.to_pandas().query("watched == 1 and part == 'train'").sort_values("at")
    for user, history in trained[0].to_pandas().query("part == 'test'")[["user", "history"]].to_numpy():
        assert list(history) == watched.film[watched.user == user].tolist()


def test_it_learns_who_watches_what(trained, folder):
    """Films of a user's own kind rank above the others; a new film counts as ranked wrong."""
    table, score = trained
    test = table.filter(pa.array(table["part"].to_numpy(zero_copy_only=False) == "test"))
    found = score(split.values(test, ["history", "film"]))
    known, new = evaluation.evaluation(None).metrics
    judged = evaluation.Rows(test["watched"].to_numpy(), found, units=test["user"].to_numpy())
    assert known.of(judged) >= new.of(judged) > 0.65


def test_a_user_who_comes_again_counts_once():
    """Rows count as one user if a later history is the earlier one plus films that the user watched since."""
    rows = {"history": [[1, 2], [1, 2], [1, 2, 3], [], [4, 1]], "film": [3, 5, 4, 1, 9]}
    fitted = estimator.fit(rows, np.array([1.0, 0, 1, 1, 0]), estimator.Params())
    assert fitted.films.tolist() == [1, 2, 3, 4]  # the users' films: {1, 2, 3, 4}, {1} and {1, 4}
    assert fitted.popularity.tolist() == pytest.approx([1, 1 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("history", "film", "said"),
    [
        ([1, 2], 3.5, "film is 3.5"),
        ([1, 2], 0.0, "film is 0"),
        ([1, 2], -7.0, "film is -7"),
        ([1, -2], 3.0, "history contains -2"),
        ([0], np.nan, "history contains 0"),
        ([1] * 5_001, 3.0, "5,000 at most"),
    ],
)
def test_what_is_no_film_is_refused(trained, history, film, said):
    """An impossible film id or too long a history is an error of the caller."""
    with pytest.raises(BadRow, match=said):
        trained[1](asked((history, film)))


def test_without_a_film_the_best_are_listed(trained):
    """Without a film, the answer has ten films outside the history, and the score of the first one."""
    rows = asked(([1, 3, 5, 999_999], np.nan), ([1, 3, 5], 7.0))
    scores = trained[1](rows)
    best, none = trained[1].answer(rows, scores)["films"]
    assert (len(set(best) - {1, 3, 5}), none) == (10, [])
    assert all(film % 2 for film in best)  # of the history's own kind
    assert trained[1](asked(([1, 3, 5], best[0])))[0] == pytest.approx(scores[0])


def test_what_training_has_not_seen_is_told(trained):
    """An unknown film ranks last; unknown films in a history are ignored, even if all are unknown."""
    rows = asked(([1, 3], 999_999.0), ([1, 999_999, 3], 5.0), ([1, 3], 5.0), ([999_999], 5.0), ([], 5.0))
    new, with_unknown, without, popular, empty = trained[1](rows)
    assert (new, with_unknown) == (scorer.NEW, without)
    assert popular == empty > 0
    shares = trained[1].profile(rows, np.zeros(5))["unknown_share"]
    assert shares.tolist() == pytest.approx([0, 1 / 3, 0, 1, 0])


def asked(*rows):
    """Return rows as a server passes them to the scorer."""
    histories = np.empty(len(rows), object)
    histories[:] = [list(history) for history, _ in rows]
    return {"history": histories, "film": np.array([film for _, film in rows], float)}
