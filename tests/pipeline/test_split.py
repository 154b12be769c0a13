"""A split decides which rows are for training and which for the test."""

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from folders import with_modules
from hypothesis import strategies as st

from loop.core.errors import LoopError
from loop.core.models import ModelFolder, Roles
from loop.core.params import PublishedSplit, RandomSplit, TimeSplit
from loop.pipeline.split import masks, numbers, similarities

pytestmark = pytest.mark.sample

ROLES = Roles(id="id", label="label", time="time", entity="card")
SPLIT = TimeSplit(until=datetime(2018, 8, 15, tzinfo=UTC), train_days=10, delay_days=7, test_days=7)
ROWS = st.lists(
    st.tuples(st.integers(0, 30 * 24 - 1), st.integers(0, 5), st.sampled_from([0, 0, 1, None])), max_size=60
)


def _table(rows):
    """Return rows of (hours since 2018-07-20, card, label)."""
    hours, cards, labels = zip(*rows, strict=True) if rows else ((), (), ())
    times = np.datetime64("2018-07-20", "us") + np.array(hours, dtype="timedelta64[h]")
    return pa.table({
        "id": pa.array(range(len(rows)), pa.int64()),
        "time": pa.array(times, pa.timestamp("us")),
        "card": pa.array(cards, pa.int32()),
        "label": pa.array(labels, pa.int8()),
    })  # fmt: skip


def test_windows_end_before_their_ends():
    """Training has [07-22, 08-01), the test [08-08, 08-15); other or unlabelled rows are in neither."""
    hours = {"07-22": 48, "08-01": 288, "08-08": 456, "08-15": 624}
    rows = [(hour + step, 1, 0) for hour in hours.values() for step in (-1, 0)]
    train, test = masks(_table([*rows, (100, 1, None), (500, 1, None)]), ROLES, SPLIT)
    assert np.flatnonzero(train).tolist() == [1, 2]
    assert np.flatnonzero(test).tolist() == [5, 6]


def test_a_publishers_split_is_kept():
    """A logged row, which has no part, is for training; a part other than train or test is an error."""
    table = _table([(hour, 1, None if hour == 3 else 0) for hour in range(4)])
    split, roles = PublishedSplit(kind="published"), dataclasses.replace(ROLES, part="part")
    train, test = masks(table.append_column("part", pa.array(["test", "train", None, "test"])), roles, split)
    assert (train.tolist(), test.tolist()) == ([False, True, True, False], [True, False, False, False])
    with pytest.raises(LoopError, match="part has 'dev', expected train or test"):
        masks(table.append_column("part", pa.array(["test", "train", None, "dev"])), roles, split)
    with pytest.raises(LoopError, match=r"ROLES\.part is None"):
        masks(table, ROLES, split)


@pytest.mark.parametrize(("entity", "held_out"), [(None, 42), ("card", 38)])
def test_a_random_split_is_seeded_and_whole(entity, held_out):
    """Every labelled row is in one part, with all rows of its entity; the seed decides which part."""
    table = _table([(hour, hour // 2, None if hour % 20 < 2 else 0) for hour in range(200)])
    roles = dataclasses.replace(ROLES, entity=entity)
    split = RandomSplit(kind="random", test=0.3, seed=1)
    train, test = masks(table, roles, split)
    cards = table["card"].to_numpy()
    assert bool(set(cards[train]) & set(cards[test])) == (entity is None)
    assert not (train & test).any()
    assert ((train | test) == table["label"].is_valid().to_numpy()).all()
    assert test.sum() == held_out  # of 180, by their hashes
    assert (masks(table.slice(50), roles, split)[1] == test[50:]).all()
    assert (masks(table, roles, split)[1] == test).all()
    assert (masks(table, roles, split.model_copy(update={"seed": 2}))[1] != test).any()


def test_ids_of_bytes_are_split_as_their_text_is():
    """An id may be bytes, such as a UUID; those of a text are in the part in which the text is."""
    split, roles = RandomSplit(kind="random", test=0.3), Roles(id="id", label="label")
    texts = pa.array([str(number) for number in range(50)])
    parts = [
        masks(pa.table({"id": ids, "label": [0] * 50}), roles, split)[1].tolist()
        for ids in (texts, texts.cast(pa.binary()))
    ]
    assert parts[0] == parts[1]
    train, test = masks(pa.table({"id": [b"\xff" * 16], "label": [0]}), roles, split)
    assert (train | test).all()


def test_a_pair_is_as_alike_as_its_vectors(tmp_path):
    """A pair's similarity is the cosine of its two rows; a pair of one or three rows is an error."""
    folder = with_modules(ModelFolder(tmp_path, "phrases"), schema=type("schema", (), {"ROLES": ROLES}))
    vectors = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0], [0.0, 0.5]])
    assert similarities(folder, vectors, pa.array([7, 5, 7, 5])) == pytest.approx([0.5**0.5, 1] * 2)
    with pytest.raises(LoopError, match="2 of 2 pairs lack two rows; the first is card 5 with 1"):
        similarities(folder, vectors, pa.array([7, 7, 5, 7]))


def test_rows_without_time_cannot_be_split_by_it():
    """If a model has no time, a split by time is an error that names the key to change."""
    with pytest.raises(LoopError, match=r"split\.kind"):
        masks(_table([(0, 1, 0)]), Roles(id="id", label="label"), SPLIT)


def test_an_unknown_label_is_named():
    """A label that was not trained on is an error that names it, and the number of its rows."""
    with pytest.raises(LoopError, match=r"2 of 3 rows have labels \['owl'\]"):
        numbers(pa.chunked_array([["cat", "owl", "owl"]]), ["cat", "dog"])
