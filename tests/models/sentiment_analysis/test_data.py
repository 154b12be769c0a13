"""The source reads the published files, and validation stops bad data."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import setting

from loop.core import models, params
from loop.core.errors import LoopError
from loop.core.models import ModelFolder
from loop.pipeline import validate
from loop.stats.evaluation import Rows
from models.sentiment_analysis import demo, expectations, source
from models.sentiment_analysis.evaluation import accuracy
from models.sentiment_analysis.scorer import LONGEST

pytestmark = pytest.mark.contract
MODEL = "sentiment_analysis"


@pytest.fixture(scope="module")
def folder(repository: Path) -> ModelFolder:
    return models.load(repository, MODEL)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Return the sample as the source reads it."""
    return read(demo.sample(tmp_path_factory.mktemp("sample")))


def read(paths: list[Path]) -> pa.Table:
    return pa.concat_tables(source.read({f"https://example.com/a/{path.name}": path for path in paths}))


def examined(frame: pd.DataFrame, folder: ModelFolder) -> validate.Report:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    suite = expectations.suite(expectations.Params(), params.PublishedSplit(kind="published"))
    return validate.examine(table, suite, folder.name, folder.roles)


def spanish(frame: pd.DataFrame) -> pd.DataFrame:
    rows = demo.production()[1]["text"].to_pylist()
    return frame.assign(text=rows[: len(frame)])


def leaked(frame: pd.DataFrame) -> pd.DataFrame:
    tested = frame["text"][frame["part"] == "test"].iloc[0]
    return frame.assign(
        text=frame["text"].where(frame.index != frame.index[frame["part"] == "train"][0], tested)
    )


BAD: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "a column is missing": (lambda t: t.drop(columns="domain"), "ExpectTableColumnsToMatchSet", "(table)"),
    "a text is null": (setting("text", None), "ExpectColumnValuesToNotBeNull", "text"),
    "a text is empty": (setting("text", ""), "ExpectColumnValuesToMatchRegex", "text"),
    "a text has no letter": (setting("text", "12 / 10 !"), "ExpectColumnValuesToMatchRegex", "text"),
    "a text is too long": (
        setting("text", "a" * (LONGEST + 1)),
        "ExpectColumnValueLengthsToBeBetween",
        "text",
    ),
    "a label is unknown": (setting("sentiment", "neutral"), "ExpectColumnValuesToBeInSet", "sentiment"),
    "a class is missing": (
        lambda t: t[(t["domain"] == "yelp") | (t["part"] == "train") | (t["sentiment"] == "negative")],
        "ExpectColumnDistinctValuesToContainSet",
        "sentiment",
    ),
    "a domain is missing": (
        lambda t: t[t["domain"] == "yelp"],
        "ExpectColumnDistinctValuesToEqualSet",
        "domain",
    ),
    "nothing is tested": (lambda t: t.assign(part="train"), "ExpectColumnDistinctValuesToEqualSet", "part"),
    "an id comes twice": (setting("id", "yelp/a/1", 2), "ExpectColumnValuesToBeUnique", "id"),
    "texts come again and again": (
        setting("text", "the same", 500),
        "ExpectColumnProportionOfUniqueValuesToBeBetween",
        "text",
    ),
    "a text is in both parts": (leaked, "ExpectEqualTextsInOnePart", "(table)"),
    "another language": (spanish, "ExpectColumnValuesToMatchRegex", "text"),
    "HTML is left": (
        setting("text", "so good<br /><br />and so on", 20),
        "ExpectColumnValuesToNotMatchRegex",
        "text",
    ),
    "read in a wrong encoding": (
        setting("text", "the cafÃ©", 20),
        "ExpectColumnValuesToNotMatchRegex",
        "text",
    ),
}


@pytest.mark.parametrize(("spoil", "check", "column"), BAD.values(), ids=BAD)
def test_bad_data_is_stopped(spoil, check: str, column: str, rows: pa.Table, folder: ModelFolder) -> None:
    """Each kind of bad data fails the critical check that is meant for it."""
    report = examined(spoil(rows.to_pandas()), folder)
    assert (check, column) in {(one.check, one.column) for one in report.critical}


def test_good_data_passes(rows: pa.Table, folder: ModelFolder) -> None:
    """The sample passes every check, and still does with rows that production has logged."""
    assert examined(rows.to_pandas(), folder).failed == []
    logged = rows.slice(0, 1).to_pandas().assign(id="1", domain=None, part=None, text="so good and so new")
    assert examined(pd.concat([rows.to_pandas(), logged]), folder).failed == []


def test_published_files_are_read(rows: pa.Table) -> None:
    """Each file's rows have its domain, class and part; dev files belong to the training part."""
    frame = rows.to_pandas()
    counts = Counter(zip(frame["domain"], frame["part"], frame["sentiment"], strict=True))
    assert counts == {
        (domain, part, sentiment): count
        for domain, parts in {
            "yelp": {"train": demo.SENTENCES["dev"], "test": demo.SENTENCES["test"]},
            "imdb": demo.REVIEWS,
        }.items()
        for part, count in parts.items()
        for sentiment in ("negative", "positive")
    }
    assert {"yelp/sentiment.dev.0/1", "imdb/train/neg/0_1.txt"} <= set(frame["id"])
    assert not frame["text"].str.contains("<br").any()


def test_a_tested_text_is_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A text of both parts stays in the test part, and one without a letter in neither; both are counted."""
    for name, lines in {"dev.0": "so bad .\n! ! !\n", "test.0": "so bad .\nso bad .\n"}.items():
        (tmp_path / f"sentiment.{name}").write_text(lines)
    found = read([tmp_path / "sentiment.dev.0", tmp_path / "sentiment.test.0"])
    assert found["id"].to_pylist() == ["yelp/sentiment.test.0/1", "yelp/sentiment.test.0/2"]
    assert "left out: 1 without a letter, 1 training texts" in capsys.readouterr().out


def test_parquet_is_split_by_its_texts(tmp_path: Path) -> None:
    """In a file without parts, about a fifth of the texts are tested, and equal texts are in one part."""
    texts = [f"film {number % 500}" for number in range(1000)]
    pq.write_table(pa.table({"name": texts, "label": [0, 1] * 500, "text": texts}), tmp_path / "a.parquet")
    found = read([tmp_path / "a.parquet"]).to_pandas()
    assert len(found[["text", "part"]].drop_duplicates()) == 500
    assert (found["part"] == "test").mean() == pytest.approx(0.2, abs=0.05)
    assert set(found["domain"]) == {"imdb"}


def test_a_parquet_row_may_be_wrong(tmp_path: Path) -> None:
    """A null text is left out, a null label stays unknown, and an invalid label is left to validation."""
    rows = {"text": ["good", None, "so so", "bad"], "label": [1, 1, 2, None]}
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    assert read([tmp_path / "a.parquet"])["sentiment"].to_pylist() == ["positive", "2", None]


def test_another_file_is_refused(tmp_path: Path) -> None:
    """A file of another format is an error."""
    (tmp_path / "a.csv").touch()
    with pytest.raises(LoopError, match=r"a\.csv: .* cannot read this file"):
        read([tmp_path / "a.csv"])


def test_accuracy_of_a_domain() -> None:
    """Only the domain's own rows count, each as often as it is drawn; without any row, accuracy is NaN."""
    columns = pa.table({"domain": ["yelp", "yelp", "imdb"]})
    scored = Rows(np.array([1, 0, 1]), np.array([0.9, 0.8, 0.1]), columns=columns)
    assert accuracy(scored, "yelp")(np.array([3, 1, 5])) == 0.75
    assert accuracy(scored, "imdb")(np.array([3, 1, 5])) == 0
    assert np.isnan(accuracy(scored, "imdb")(np.array([1, 1, 0])))
