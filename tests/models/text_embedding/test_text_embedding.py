"""A text embedding checks texts in training data and requests; its source and teacher work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from frames import setting

from loop.core import models
from loop.core.errors import LoopError
from loop.core.models import ModelFolder
from loop.monitoring.drift import drift
from loop.pipeline import validate
from loop.runtime.columns import BadRow
from models.text_embedding import demo, expectations, scorer, source
from models.text_embedding.schema import ROLES

pytestmark = pytest.mark.contract
VOCABULARY = ["[UNK]", "the", "dog", "play", "##ing", "##s", "cafe", "!", "in"]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in demo.sample(tmp_path_factory.mktemp("sample"))}


@pytest.fixture(scope="module")
def good(sample: dict[str, Path]) -> pd.DataFrame:
    return pa.concat_tables(source.read(sample)).to_pandas()


def examined(frame: pd.DataFrame) -> validate.Report:
    suite = expectations.suite(expectations.Params(), None)
    return validate.examine(pa.Table.from_pandas(frame, preserve_index=False), suite, "text_embedding", ROLES)


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    """Repeat the first pair at the end."""
    return pd.concat([frame, frame[:2]])


def german(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(text=[f"der Hund {number} bellt laut" for number in range(len(frame))])


SPOILT: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str, str]] = {
    "a text is empty": (setting("text", ""), "ExpectColumnValuesToMatchRegex", "text"),
    "a text is blank": (setting("text", " \n\t"), "ExpectColumnValuesToMatchRegex", "text"),
    "a text is marks alone": (setting("text", "?!"), "ExpectColumnValuesToMatchRegex", "text"),
    "a text is null": (setting("text", None), "ExpectColumnValuesToNotBeNull", "text"),
    "a text is too long": (setting("text", "dog " * 300), "ExpectColumnValueLengthsToBeBetween", "text"),
    "another language": (german, "ExpectColumnValuesToMatchRegex", "text"),
    "a label is over 5": (setting("alike", 5.5), "ExpectColumnValuesToBeBetween", "alike"),
    "a label is negative": (setting("alike", -1.0), "ExpectColumnValuesToBeBetween", "alike"),
    "labels from 0 to 1": (
        lambda t: t.assign(alike=t["alike"] / 5),
        "ExpectColumnMeanToBeBetween",
        "alike",
    ),
    "a pair has one row": (lambda t: t[1:], "ExpectColumnValuesToComeTwice", "pair"),
    "a pair has three rows": (setting("pair", "p", 3), "ExpectColumnValuesToComeTwice", "pair"),
    "a pair comes twice": (twice, "ExpectColumnValuesToBeUnique", "id"),
    "no test part": (
        lambda t: t[t["part"] == "train"],
        "ExpectColumnDistinctValuesToEqualSet",
        "part",
    ),
    "a part is unknown": (setting("part", "dev"), "ExpectColumnDistinctValuesToEqualSet", "part"),
    "a column is missing": (lambda t: t.drop(columns="alike"), "ExpectTableColumnsToMatchSet", "(table)"),
}


@pytest.mark.parametrize(("spoil", "check", "column"), SPOILT.values(), ids=SPOILT)
def test_bad_data_is_stopped(
    spoil: Callable[[pd.DataFrame], pd.DataFrame], check: str, column: str, good: pd.DataFrame
) -> None:
    """Each kind of bad data fails the critical check that is meant for it."""
    assert (check, column) in {(one.check, one.column) for one in examined(spoil(good)).critical}


def test_a_leak_is_stopped(good: pd.DataFrame) -> None:
    """If a sentence of the training part is in the test part, too, a critical check counts both rows."""
    leaked = good["text"][good["part"] == "train"].iloc[0]
    places = np.flatnonzero(good["part"] == "test")[:1]
    [found] = examined(good.assign(text=good["text"].where(~good.index.isin(places), leaked))).critical
    assert (found.check, found.unexpected) == ("ExpectTextsToBeInOnePart", 2)


def test_good_data_passes(good: pd.DataFrame) -> None:
    assert examined(good).failed == []
    damaged = examined(setting("text", "The caf\ufffd is in the street", 16)(good))
    assert (damaged.critical, damaged.score) == ([], pytest.approx(0.995))  # the mean of two scored checks


def test_two_files_are_read_as_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A repeated pair counts once, and a training pair with a sentence of the test part is left out."""
    train, test = tmp_path / "stsb-train.csv", tmp_path / "stsb-test.csv"
    train.write_text('a,b,1.0\nb,a,1.5\n"NA","say ""x"", y",2.0\nc,d,3.0\n')
    test.write_text("c,e,4.0\n")
    [rows] = source.read({f"https://host/{path.name}": path for path in (train, test)})
    found = [tuple(row.values())[2:] for row in rows.to_pylist()]
    assert found == [
        ("c", 4.0, "test"),
        ("e", 4.0, "test"),
        ("a", 1.0, "train"),
        ("b", 1.0, "train"),
        ("NA", 2.0, "train"),
        ('say "x", y', 2.0, "train"),
    ]
    assert "1 of 5 pairs are duplicates; 1 training pairs are left out" in capsys.readouterr().out
    with pytest.raises(LoopError, match=r"stsb-train\.csv: found no pair for test"):
        list(source.read({"stsb-train.csv": train}))


def test_a_file_is_read_by_what_is_in_it(tmp_path: Path) -> None:
    """The content, not the name, decides the format of a file, and its column `part` gives the parts."""
    pairs = {"score": [1.0, 2.0], "sentence2": ["b", "d"], "sentence1": ["a", "c"], "part": ["train", "test"]}
    table, wrong = tmp_path / "latest", tmp_path / "wrong.csv"
    expected = [("c", 2.0, "test"), ("d", 2.0, "test"), ("a", 1.0, "train"), ("b", 1.0, "train")]
    for write in (pd.DataFrame.to_parquet, pd.DataFrame.to_csv):
        write(pd.DataFrame(pairs), table, index=False)
        [rows] = source.read({"data/latest": table})
        assert [tuple(row.values())[2:] for row in rows.to_pylist()] == expected
    for content in (b"", b"a,b\n", b"a,b,like\n", b"a,b,1,2\n", b"sentence1,score\n", b"\xe9,b,1\n"):
        wrong.write_bytes(content)
        with pytest.raises(LoopError, match=r"wrong\.csv: expected sentence1, sentence2 and score"):
            list(source.read({"wrong.csv": wrong}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model of a few pieces with orthogonal vectors."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocabulary.txt").write_text("\n".join(VOCABULARY) + "\n")
    np.save(folder / "vectors.npy", np.eye(len(VOCABULARY), dtype=np.float16))
    return folder


@pytest.mark.parametrize(
    ("text", "pieces"),
    {
        "The DOG plays": ["the", "dog", "play", "##s"],
        "playing dogs!": ["play", "##ing", "dog", "##s", "!"],
        "Café": ["cafe"],
        "the cat\tin": ["the", "in"],  # a word of unknown pieces is left out
        "dog" + "s" * 98: [],
    }.items(),
)
def test_texts_are_cut_as_the_teacher_cuts_them(text: str, pieces: list[str]) -> None:
    assert [VOCABULARY[number] for number in scorer.Pieces(VOCABULARY).of(text)] == pieces


def test_a_vector_has_length_one(folder: Path) -> None:
    """Each vector has length 1, and a text alone has the same vector as among others."""
    score, texts = scorer.load(folder), ["the dog", "dog dog playing!"]
    together = score({"text": np.array(texts, object)})
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(together, [score({"text": np.array([text], object)})[0] for text in texts])


REFUSED = {
    "empty": ("", "is empty"),
    "blank": (" \n", "is empty"),
    "no known word": ("zebra", "no word that the model knows"),
    "pictures": ("🦜🦜", "no word that the model knows"),
    "one endless word": ("a" * 5_000, "no word that the model knows"),
    "a megabyte": ("the dog " * 131_072, "has 1,048,576 characters, should have 10,000 at most"),
}


def test_endless_words_are_not_remembered(folder: Path) -> None:
    """The cache keeps no very long words, because callers could fill a server's memory with them."""
    found = scorer.load(folder)
    found({"text": np.array([f"dog {'a' * 5_000}{number}" for number in range(9)], object)})
    assert max(map(len, found.pieces)) < 100


@pytest.mark.parametrize(("text", "said"), REFUSED.values(), ids=REFUSED)
def test_a_text_without_a_vector_is_refused(text: str, said: str, folder: Path) -> None:
    """A text without a known word, or too long a text, is refused with the reason."""
    with pytest.raises(BadRow, match=said):
        scorer.load(folder)({"text": np.array(["the dog", text], object)})


OTHER = {
    "another language": "der Hund läuft mit dem Kind durch die Straße und bellt",
    "code": "for (i = 0; i < 10; i++) { x[i] += y[i]; }",
    "numbers": "12 40 7 1999 3.14 100 22",
}


@pytest.mark.parametrize("text", OTHER.values(), ids=OTHER)
def test_other_texts_drift(text: str, good: pd.DataFrame, folder: Path) -> None:
    """Another language, code or numbers drift in the profile; more texts of the same domain do not."""
    texts, nowhere = good["text"].to_numpy(), np.zeros((800, 3))
    some = (texts[::2], texts[1::2], np.array([text] * 800, object))
    profile = scorer.load(folder).profile
    profiled = [profile({"text": each}, nowhere) for each in some]
    far = [max(one.score for one in drift(profiled[0], rows).values()) for rows in profiled[1:]]
    assert far[0] < 0.2
    assert far[1] > 1


@pytest.fixture(scope="module")
def whole(repository: Path) -> ModelFolder:
    return models.load(repository, "text_embedding")


def fitted(whole: ModelFolder, **params: Any) -> Any:
    texts = ["A dog runs.", "A puppy is running.", "The stock market fell today.", "Shares fell on Monday."]
    section = whole.estimator.Params(vocabulary=3_000, dimensions=3, **params)
    return whole.estimator.fit({"text": np.array(texts * 2, object)}, np.zeros(8), section)


@pytest.mark.slow
def test_the_teacher_says_what_its_publisher_says(whole: ModelFolder) -> None:
    """The teacher's cosines are those of the example on the front page of sbert.net."""
    texts = ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium.")
    pieces = scorer.Pieces(whole.estimator._file("vocab.txt").read_text().splitlines())
    vectors = whole.estimator.Teacher().vectors([pieces.of(text) for text in texts])
    published = [0.6660, 0.1046, 0.1411]
    np.testing.assert_allclose((vectors @ vectors.T)[np.triu_indices(3, 1)], published, atol=1e-4)


@pytest.mark.slow
def test_the_student_learns_from_the_teacher(whole: ModelFolder, tmp_path: Path) -> None:
    """Texts with the same meaning have near vectors, and the same texts give the same bytes."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        whole.estimator.save(fitted(whole), tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("a", "b")]
    assert files[0] == files[1]
    texts = np.array(["A dog is running.", "A puppy runs.", "Stock fell on Monday."], object)
    vectors = scorer.load(tmp_path / "a")({"text": texts})
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2]


def test_no_gpu_is_said(whole: ModelFolder) -> None:
    with pytest.raises(LoopError, match=r"train\.device: is 'cuda', but JAX finds no such device"):
        fitted(whole, device="cuda")


def test_a_gpu_gives_the_same_vectors(whole: ModelFolder, tmp_path: Path) -> None:
    """The program for GPUs, here on a CPU, gives the same vectors for one text and for many."""
    (tmp_path / "vocabulary.txt").write_text("\n".join(VOCABULARY))
    np.save(tmp_path / "vectors.npy", np.random.default_rng(0).normal(size=(len(VOCABULARY), 4)))
    ours, theirs = whole.scorer.Scorer(tmp_path), whole.scorer.OnGpu(tmp_path, "cpu")
    for texts in (["the dog"], ["the dogs play in the cafe!", "dog", "playing"] * 5):
        rows = {"text": np.array(texts, object)}
        np.testing.assert_allclose(theirs(rows), ours(rows), atol=1e-6)


def test_a_server_without_the_gpu_that_it_should_use_does_not_start(
    whole: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORER_DEVICE", "cuda")
    (tmp_path / "vocabulary.txt").write_text("the")
    np.save(tmp_path / "vectors.npy", np.ones((1, 4)))
    with pytest.raises(ValueError, match="SCORER_DEVICE is cuda, but JAX has no such device"):
        whole.scorer.load(tmp_path)
