"""A window joins log and store correctly in cases that test_monitor.py does not cover."""

import gzip
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from loop.core.errors import LoopError
from loop.core.models import Roles
from loop.monitoring import log
from loop.monitoring.drift import drift
from loop.monitoring.live import measure

NOBODY = 65534
FEW = ["amount", "often"]
ROLES = Roles(id="id", label="y", time="at")
DAY = datetime(2026, 3, 2)  # noqa: DTZ001 — naive UTC, as stored


def line(number: int, score: object = 0.5) -> str:
    values = {"id": number, "model": "m", "version": "v", "features": [1.0, 2.0], "score": score, "class": 7}
    return json.dumps({"time": f"{DAY.isoformat()}+00:00", **values}) + "\n"


def test_remote() -> None:
    """Log and store are read through fsspec if they are not local folders."""
    files = fsspec.filesystem("memory")
    files.pipe("/far/log/a.jsonl", (line(1) + line(2)).encode())
    with files.open("/far/store/transactions/a.parquet", "wb") as file:
        pd.DataFrame({"id": [1], "at": [DAY]}).to_parquet(file)
    store = "memory://far/store"
    window = log.read("memory://far/log", "m", ["a", "b"], ROLES, store=store, until=None, days=7)
    assert (len(window.rows), window.unmatched) == (1, 1)


def test_a_place_that_nobody_answers_for(monkeypatch) -> None:
    """A place that does not answer is an error with its name and the file system's message."""

    def away(*_: object, **__: object) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "glob", away)
    with pytest.raises(LoopError, match=r"^memory://far/log/\*\.jsonl\*: cannot be read: .*nobody there"):
        log.read("memory://far/log", "m", ["a", "b"], ROLES, store=None, until=None, days=7)


def test_a_folder_that_is_closed_to_this_user() -> None:
    """An unreadable store is an error; if it counted as empty, the time of every event would change."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.jsonl").write_text(line(1))
        (folder / "closed" / "store" / "transactions").mkdir(parents=True)
        (folder / "closed").chmod(0)
        log.read(
            name, "m", ["a", "b"], ROLES, store=None, until=None, days=7
        )  # imports modules that NOBODY cannot read
        root = os.geteuid() == 0
        if root:  # root may enter every folder
            os.seteuid(NOBODY)
        try:
            with pytest.raises(LoopError, match="transactions/: cannot be read: Permission denied"):
                log.read(name, "m", ["a", "b"], ROLES, store=f"{name}/closed/store", until=None, days=7)
        finally:
            if root:
                os.seteuid(0)
            (folder / "closed").chmod(0o700)


def test_several_scores(tmp_path) -> None:
    """For several classes, the score is the highest one, even if an older release logged a list."""
    (tmp_path / "a.jsonl").write_text(
        line(1, [0.1, 0.9]) + line(2, 0.8).replace("0.8", '0.8, "scores": [0.8, 0.2]')
    )
    window = log.read(
        str(tmp_path), "m", ["a", "b"], Roles(id="id", label="y"), store=None, until=None, days=7
    )
    assert sorted(window.rows["score"]) == [0.8, 0.9]
    assert (window.logged, window.broken) == (2, 0)


@pytest.mark.parametrize(
    ("kind", "logged", "labels", "expected"),
    [
        ("string", '"Yes"', ["Yes", "No"], [("Yes", "No"), ("Yes", "Yes")]),
        ("string", '"1"', [1, 0.5], [("1", "0.5"), ("1", "1")]),
        ("bool", "true", [True, False], [("true", "false"), ("true", "true")]),
        ("int8", "1", [1.0, 0.0], [(1, 0), (1, 1)]),
    ],
)
def test_classes_are_of_the_labels_type(tmp_path, kind, logged, labels, expected) -> None:
    """Answers are compared with labels in the schema's type: text, booleans or numbers."""
    lines = "".join(line(number).replace('"class": 7', f'"class": {logged}') for number in (1, 2))
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "labels").mkdir()
    for number, label in enumerate(labels, 1):
        reported = pd.DataFrame({"id": [number], "y": [label], "reported_at": [DAY]})
        reported.to_parquet(tmp_path / "labels" / f"{number}.parquet")
    roles, columns = Roles(id="id", label="y"), {"id": "int64", "y": kind}
    window = log.read(
        str(tmp_path), "m", ["a", "b"], roles, store=str(tmp_path), until=None, days=7, columns=columns
    )
    found = window.labelled[["class", "label"]].itertuples(index=False)
    assert sorted(map(tuple, found)) == expected


@pytest.mark.parametrize("part", ["transactions", "labels"])
@pytest.mark.parametrize(
    "content",
    [b"no Parquet", {"id": 1}, {"id": 1, "at": "soon", "y": "yes", "reported_at": DAY}],
    ids=["bytes", "columns", "types"],
)
def test_a_store_that_cannot_be_read(tmp_path, part, content) -> None:
    """An invalid file beside a sound one is an error that names the store or the file, not a traceback."""
    (tmp_path / "a.jsonl").write_text(line(1))
    (tmp_path / part).mkdir()
    file = tmp_path / part / "a.parquet"
    file.write_bytes(content) if isinstance(content, bytes) else pd.DataFrame([content]).to_parquet(file)
    sound = pd.DataFrame([{"id": 2, "at": DAY, "y": 7, "reported_at": DAY}])
    sound.to_parquet(tmp_path / part / "b.parquet")
    with pytest.raises(LoopError, match=f"{tmp_path}: cannot be read|{file}: has no column '\\w*at'"):
        log.read(str(tmp_path), "m", ["a", "b"], ROLES, store=str(tmp_path), until=None, days=7)


def test_corrected_label(tmp_path) -> None:
    """The latest label that was known at the window's end counts, once for each prediction.

    Of two reports at the same time, the same one always counts; a report without a label is ignored.
    """
    (tmp_path / "a.jsonl").write_text(line(1))
    (tmp_path / "labels").mkdir()
    reports = [(0, 1), (1, 2), (0, 2), (None, 3), (0, 9)]  # the last one comes after the window
    labels = [{"id": 1, "y": y, "reported_at": DAY.replace(day=2 + day)} for y, day in reports]
    pd.DataFrame(labels).to_parquet(tmp_path / "labels" / "a.parquet")
    until = DAY.replace(day=8)
    window = log.read(str(tmp_path), "m", ["a", "b"], ROLES, store=str(tmp_path), until=until, days=7)
    assert window.labelled[["label", "class"]].to_numpy().tolist() == [[1, 7]]
    assert (window.unlabelled, window.corrected, window.empty) == (0, 1, 1)


WRITTEN = {
    "int": lambda ids: pd.Series(ids, dtype="int64"),
    "float": lambda ids: pd.Series(ids, dtype="float64"),
    "str": lambda ids: pd.Series(map(str, ids)),
    "decimal": lambda ids: pd.Series([Decimal(f"{one}.00") for one in ids]),
}


@pytest.mark.parametrize("kind", WRITTEN)
def test_ids_are_compared_in_the_schemas_type(tmp_path, kind) -> None:
    """Ids match whatever type a file of transactions or labels stores them in, even if files differ."""
    large = 2**53 + 1  # not exact as a float
    sent = [1, "2", 3.0, large]
    (tmp_path / "a.jsonl").write_bytes(b"".join(changed(1, id=one) for one in sent))
    for part, rest in (("transactions", {"at": DAY}), ("labels", {"y": 7, "reported_at": DAY})):
        for name, ids in (("a", [1, 2, 3]), ("b", [large])):
            (tmp_path / part / "day=1").mkdir(parents=True, exist_ok=True)
            frame = pd.DataFrame({"id": WRITTEN[kind if name == "a" else "int"](ids), **rest})
            frame.to_parquet(tmp_path / part / "day=1" / f"{name}.parquet")
        (tmp_path / part / "_half.parquet").write_bytes(b"half")
    kinds = {"id": "int64"}
    window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7, columns=kinds)
    assert (window.predictions, window.unmatched, window.unlabelled, window.apart) == (4, 0, 0, ())
    assert window.labelled["rows"].sum() == 4


def test_ids_of_64_bits_without_sign_are_compared_exactly(tmp_path) -> None:
    """Ids of type uint64, such as hashes, match up to the largest, and a fraction matches no whole number."""
    most = 2**64 - 1
    sent = (changed(1, id=one) for one in (most, most - 1, 7.5, "7.0000001"))
    (tmp_path / "a.jsonl").write_bytes(b"".join(sent))
    (tmp_path / "transactions").mkdir()
    ids = pd.Series([most, most - 1, 7], dtype="uint64")
    pd.DataFrame({"id": ids, "at": DAY}).to_parquet(tmp_path / "transactions" / "a.parquet")
    kinds = {"id": "uint64"}
    window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7, columns=kinds)
    assert (window.predictions, window.unmatched) == (2, 2)


def test_a_supplier_has_columns_of_its_own(tmp_path) -> None:
    """Columns that the schema does not name change nothing and stay as they are, whatever their names."""
    (tmp_path / "a.jsonl").write_text(line(1))
    own = {"_time": DAY - timedelta(days=90), "_key": "x", "_text": "y", "key": 3, "text": 4, "event": 5}
    for part in ("transactions", "labels"):
        (tmp_path / part).mkdir()
        frame = pd.DataFrame([{"id": 1, "at": DAY, "y": 7, "reported_at": DAY, **own}])
        frame.to_parquet(tmp_path / part / "a.parquet")
    kinds = {"id": "int64"}
    window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7, columns=kinds)
    assert (window.end, window.unmatched, window.unlabelled) == (DAY + timedelta(seconds=1), 0, 0)
    assert window.transactions.select(list(own)).to_pylist() == [own]


APART = {
    "zeros": ("string", ["007", "008"], ["7", "8"], ("'007'", "'7'")),
    "others": ("int64", [1, 2], ["A-1", "A-2"], ("'1'", "'A-1'")),
    "one": ("int64", [8, 9, "b7"], [2, 3], ("'b7'", "'2'")),
    "none": ("int64", [None, None], [1, 2], ("None", "'1'")),
    "later": ("int64", [8, 9], [1, 2], ("'8'", "'1'")),
}


@pytest.mark.parametrize(("kind", "sent", "stored", "shown"), APART.values(), ids=APART)
def test_what_matches_nothing_is_said_with_examples(tmp_path, kind, sent, stored, shown) -> None:
    """If no prediction has a transaction, or no label has a prediction, the report names ids of both sides.

    An id that is not of the schema's type is named first.
    """
    (tmp_path / "a.jsonl").write_bytes(b"".join(changed(1, id=one) for one in sent))
    for part, rest in (("transactions", {"at": DAY}), ("labels", {"y": 7, "reported_at": DAY})):
        (tmp_path / part).mkdir()
        pd.DataFrame({"id": stored, **rest}).to_parquet(tmp_path / part / "a.parquet")
    window = log.read(
        str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7, columns={"id": kind}
    )
    why = f"compared as {kind}: the log has ids such as {shown[0]}, the store has ids such as {shown[1]}"
    said = f"{len(sent)} of {len(sent)} predictions have no transaction in the store, {why}"
    assert window.apart == (
        f"{said}; the log's own times are used instead",
        f"2 of 2 labels reported in the window match no prediction, {why}",
    )


def test_times_with_an_offset_are_the_same_instant(tmp_path) -> None:
    """A time with an offset is the same instant in log, transactions and labels, at a window's end, too."""
    berlin = timezone(timedelta(hours=2))
    noon = DAY.replace(hour=12, tzinfo=UTC)
    (tmp_path / "a.jsonl").write_bytes(changed(1, time=noon.astimezone(berlin).isoformat()))
    for part, name in (("transactions", "at"), ("labels", "reported_at")):
        (tmp_path / part).mkdir()
        for number, time in enumerate((noon.replace(tzinfo=None), noon.astimezone(berlin))):
            frame = pd.DataFrame({"id": [1 + number], name: [pd.Timestamp(time)], "y": [7]})
            frame.to_parquet(tmp_path / part / f"{number}.parquet")
    (tmp_path / "b.jsonl").write_bytes(changed(2, time=noon.isoformat()))
    for until, found in ((noon, 0), (noon + timedelta(seconds=1), 2)):
        end = until.replace(tzinfo=None)
        window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=end, days=7)
        assert (window.predictions, len(window.labelled) and window.labelled["rows"].sum()) == (found, found)


def test_a_log_too_long_for_memory(tmp_path, monkeypatch) -> None:
    """Of a long log, the same sample is read each time, with nearly the same drift; all rows are counted."""
    rng = np.random.default_rng(0)
    values = rng.gamma(2, 25, (3_000, 2))
    lines = [json.loads(line(number)) | {"features": list(row)} for number, row in enumerate(values)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    roles, where = Roles(id="id", label="y"), str(tmp_path)
    reference = pd.DataFrame(rng.gamma(2, 35, (3_000, 2)), columns=FEW)
    whole = log.read(where, "m", FEW, roles, store=None, until=None, days=7)
    monkeypatch.setattr(log, "MOST", 1_000)
    some, again = (log.read(where, "m", FEW, roles, store=None, until=None, days=7) for _ in range(2))
    assert len(whole.rows) == whole.predictions == some.predictions == 3_000
    assert 800 < len(some.rows) < 1_200
    assert sorted(some.rows["amount"]) == sorted(again.rows["amount"])
    near, far = (drift(reference, window.rows[FEW])["amount"].score for window in (some, whole))
    assert near == pytest.approx(far, abs=0.1)


@pytest.mark.parametrize(("limit", "little"), [("MEMORY", 16), ("JOINS", 4)])
def test_a_database_with_too_little_memory(tmp_path, monkeypatch, limit, little) -> None:
    """Reading starts over with more, as hundreds of features need it to join, and long files to convert."""
    wide = json.dumps({**json.loads(line(1)), "features": [0.5] * 100})
    (tmp_path / "a.jsonl").write_text(f"{wide}\n" * 5_000)
    names = [f"f{number}" for number in range(100)]

    def rows() -> int:
        window = log.read(str(tmp_path), "m", names, ROLES, store=None, until=None, days=7)
        return len(window.rows)

    monkeypatch.setattr(log, limit, little)
    assert rows() == 5_000
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
    monkeypatch.setattr(log, "TIMES", (1,))
    with pytest.raises(LoopError, match=rf"^{tmp_path}: Out of Memory Error"):
        rows()


def test_more_labels_than_memory(tmp_path, monkeypatch) -> None:
    """With very many labels, similar scores are counted together, and the metrics stay nearly the same."""
    rng = np.random.default_rng(0)
    scores, noise = rng.uniform(0.5, 0.501, (2, 3_000))
    lines = [json.loads(line(*one)) | {"class": int(one[1] > 0.5005)} for one in enumerate(scores)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    (tmp_path / "labels").mkdir()
    labels = {"id": range(3_000), "y": (scores + noise > 1.001).astype(int), "reported_at": DAY}
    pd.DataFrame(labels).to_parquet(tmp_path / "labels" / "a.parquet")

    def labelled() -> pd.DataFrame:
        window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7)
        return window.labelled

    each = labelled()
    monkeypatch.setattr(log, "MOST", 1_000)
    alike = labelled()
    assert (len(each), len(alike)) == (3_000, pytest.approx(200, abs=10))
    one, other = (measure(rows, "binary", {}) for rows in (each, alike))
    assert one.labelled == other.labelled
    assert one.metrics == pytest.approx(other.metrics, abs=0.01)


def values(number: int, score: float | None) -> str:
    """Return a log line of a regression, which has no class."""
    found = json.loads(line(number, score))
    del found["class"]
    return json.dumps(found) + "\n"


def test_a_regressions_values_are_measured_as_they_are(tmp_path, monkeypatch) -> None:
    """Labels keep fractions, a line without a score is broken, and of very many rows a sample is measured."""
    (tmp_path / "a.jsonl").write_text("".join(values(n, n / 4) for n in range(2_000)) + values(2_000, None))
    (tmp_path / "labels").mkdir()
    reports = pd.DataFrame({"id": range(2_000), "y": np.arange(2_000) / 4 + 0.25, "reported_at": DAY})
    reports.to_parquet(tmp_path / "labels" / "a.parquet")

    def window() -> log.Window:
        where = {"store": str(tmp_path), "until": None, "days": 7}
        return log.read(str(tmp_path), "m", FEW, ROLES, answer="score", **where)

    found = window()
    assert (found.predictions, found.broken, found.unlabelled) == (2_000, 1, 0)
    live = measure(found.labelled, "regression", {"rmse": 0.2})
    assert (live.labelled, live.metrics["rmse"], live.metrics["mae"]) == (2_000, 0.25, 0.25)
    assert live.metrics["spearman"] == pytest.approx(1)
    assert live.missed == ["rmse is 0.2500, over its bound 0.2"]
    monkeypatch.setattr(log, "MOST", 500)
    few = measure(window().labelled, "regression", {})
    assert 300 < few.labelled < 700
    assert few.metrics["rmse"] == 0.25


def test_rows_of_another_width(tmp_path) -> None:
    """After a change of features, only rows with as many features as the reference are in the window."""
    old = json.loads(line(1)) | {"features": [1.0, 2.0, 3.0]}
    (tmp_path / "a.jsonl").write_text(json.dumps(old) + "\n" + line(2) + line(3))
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert (len(window.rows), window.predictions, window.logged) == (2, 2, 3)


def test_an_event_of_the_future(tmp_path) -> None:
    """A row with a wrong date in the future does not move the window's end, so the other rows count."""
    wrong = json.loads(line(1)) | {"time": "2099-01-01T00:00:00+00:00"}
    (tmp_path / "a.jsonl").write_text(json.dumps(wrong) + "\n" + line(2))
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert (window.predictions, window.end) == (1, DAY.replace(second=1))


def changed(number: int, **values: object) -> bytes:
    return (json.dumps(json.loads(line(number)) | values) + "\n").encode()


@pytest.mark.parametrize("apart", [0, 1], ids=["in one request", "in many"])
def test_one_prediction_an_id(tmp_path, apart) -> None:
    """An id that is sent 8,000 more times is one labelled prediction: the first that was answered."""
    first = [changed(number) for number in range(100)]
    later = (DAY + timedelta(seconds=apart * (1 + n)) for n in range(8_000))
    again = [changed(7, **{"class": 1, "time": f"{time.isoformat()}+00:00"}) for time in later]
    (tmp_path / "a.jsonl").write_bytes(b"".join([*again, *first]))
    (tmp_path / "labels").mkdir()
    labels = pd.DataFrame({"id": range(100), "y": 7, "reported_at": DAY})
    labels.to_parquet(tmp_path / "labels" / "a.parquet")
    window = log.read(str(tmp_path), "m", FEW, ROLES, store=str(tmp_path), until=None, days=7)
    found = measure(window.labelled, "multiclass", {})
    assert (found.labelled, found.metrics["accuracy"]) == (
        100,
        1 if apart else 0.99,
    )  # at the same time: always the same one
    assert window.repeated == 8_000


NOISE = {
    "broken": b'{"time": \n',
    "binary": bytes(range(256)).replace(b"\n", b"") * 9 + b"\n",
    "zeros": bytes(5_000) + b"\n",
    "no UTF-8": changed(9).replace(b'"v"', b'"\xff\xfe"'),
    "deep": b"[" * 100_000 + b"\n",
    "no object": b"[1, 2]\n",
    "two on a line": changed(9)[:-1] + changed(10),
    "no class": changed(9, **{"class": "x"}),
    "a time without end": changed(9, time="infinity"),
}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_a_line_that_is_no_prediction_is_skipped(tmp_path, noise) -> None:
    """An invalid line counts as broken whatever its content, and the lines around it are read."""
    (tmp_path / "a.jsonl").write_bytes(changed(1) + changed(2) + noise + changed(3))
    (tmp_path / "b.jsonl").write_bytes(changed(4))
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert (window.predictions, window.broken, len(window.rows)) == (4, 1, 4)


@pytest.mark.parametrize("features", [[None, 2.0], [1e300, 2.0]], ids=["null", "too large"])
def test_a_value_that_is_missing_leaves_its_row(tmp_path, features) -> None:
    """A feature that is null or too large counts as missing for drift, and its row stays in the window."""
    (tmp_path / "a.jsonl").write_bytes(changed(1) + changed(2, features=features))
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert (window.predictions, len(window.rows), len(window.days)) == (2, 2, 2)
    assert (~np.isfinite(window.rows["amount"])).sum() == 1


def test_a_file_that_cannot_be_read_is_skipped(tmp_path) -> None:
    """An invalid or truncated gzip file, or a file with an endless line, counts as broken and is left out."""
    (tmp_path / "a.jsonl").write_bytes(changed(1))
    (tmp_path / "b.jsonl.gz").write_bytes(b"junk")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(changed(2) * 1_000)[:-20])
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(changed(3)))
    (tmp_path / "e.jsonl").write_bytes(changed(4) + changed(5, id="x" * 40_000_000) + changed(6))
    (tmp_path / "f.jsonl").write_bytes(changed(7) + b"z" * 40_000_000)
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert (window.predictions, window.broken) == (2, 4)


def test_a_file_beside_the_log_that_is_not_parquet_is_named(tmp_path) -> None:
    """A file whose name ends in .parquet and which is cut off or empty is an error that names it."""
    (tmp_path / "a.jsonl").write_bytes(changed(1))
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(LoopError, match=r"b\.parquet.*\n  fix: remove the file"):
        log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)


@pytest.mark.parametrize(("kind", "answer"), [("int64", "class"), ("string", "class"), ("double", "score")])
def test_a_label_that_is_not_a_number_is_missing(tmp_path, kind, answer) -> None:
    """Spark and Polars write NaN for a missing label; it counts as empty, and says nothing against ids."""
    (tmp_path / "a.jsonl").write_bytes(changed(1) + changed(2))
    (tmp_path / "labels").mkdir()
    kinds = {"id": "int64", "y": kind}
    for name, labels, *found in (("a", [float("nan")] * 2, 0, 2), ("b", [7.0, float("nan")], 1, 3)):
        reported = pa.table({"id": [1, 2], "y": labels, "reported_at": [DAY] * 2})
        pq.write_table(reported, tmp_path / "labels" / f"{name}.parquet")
        where = {"store": str(tmp_path), "until": None, "days": 7, "columns": kinds, "answer": answer}
        window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), **where)
        assert [len(window.labelled), window.empty, window.apart] == [*found, ()]


def test_a_time_to_come_hides_no_silence(tmp_path) -> None:
    """Lines from the future do not count when the report says when the log was last written."""
    (tmp_path / "a.jsonl").write_bytes(changed(1) + changed(2, time="2099-01-01T00:00:00+00:00"))
    window = log.read(str(tmp_path), "m", FEW, Roles(id="id", label="y"), store=None, until=None, days=7)
    assert window.latest == DAY.replace(tzinfo=UTC).timestamp()
