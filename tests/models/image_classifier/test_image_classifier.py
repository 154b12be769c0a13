"""An image classifier checks images in training data and requests; its source and network work."""

import gzip
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import setting
from PIL import Image

from loop.core import models
from loop.core.errors import LoopError
from loop.pipeline import validate
from loop.runtime.columns import BadRow
from loop.stats.evaluation import Rows
from models.image_classifier import expectations, scorer, source
from models.image_classifier.evaluation import evaluation

pytestmark = [pytest.mark.contract, pytest.mark.sample]


def drawn(seed: int) -> np.ndarray:
    """Return a bright rectangle on black; each seed gives another image."""
    image = np.zeros((28, 28), np.uint8)
    top, left, bottom, right = np.random.default_rng(seed).integers((4, 4, 16, 16), (14, 14, 24, 24))
    image[top:bottom, left:right] = 100 + seed % 156
    image[2, seed % 28] = 1 + seed // 28 % 255  # so that no two images are equal
    return image


def saved(image: Image.Image, kind: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, kind)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(side: int) -> bytes:
    """Return a small PNG that claims to be a grey image of side x side pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(10**6), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def transparent() -> bytes:
    """Return a PNG with a palette in which one colour is transparent."""
    file = BytesIO()
    Image.fromarray(drawn(0)).convert("P").save(file, "PNG", transparency=0)
    return file.getvalue()


GOOD = source.png(drawn(0))
BAD = {
    "no bytes": (b"", "is not a valid PNG"),
    "not an image": (b"seven", "is not a valid PNG"),
    "a JPEG": (saved(Image.fromarray(drawn(0)), "JPEG"), "is not a valid PNG"),
    "a truncated PNG": (GOOD[:70], "is not a valid PNG"),
    "a PNG with a wrong checksum": (GOOD[:60] + bytes([GOOD[60] ^ 1]) + GOOD[61:], "is not a valid PNG"),
    "a bomb of 900 million pixels": (bomb(30_000), "is not a valid PNG"),
    "a bomb under Pillow's own limit": (bomb(9_000), "is 9000 x 9000 pixels"),
    "another size": (source.png(np.eye(32, dtype=np.uint8)), "is 32 x 32 pixels"),
    "a transparent image": (saved(Image.fromarray(drawn(0)).convert("RGBA")), r"\(RGBA\)"),
    "a transparent palette": (transparent(), "should be 28 x 28, not transparent"),
    "16 bits a pixel": (saved(Image.fromarray(drawn(0).astype(np.uint16) * 200)), r"\(I;16\)"),
    "a blank image": (source.png(np.full((28, 28), 255, np.uint8)), "is blank"),
    "too many bytes": (GOOD + bytes(scorer.LARGEST), "at most"),
}


@pytest.mark.parametrize(("image", "said"), BAD.values(), ids=BAD)
def test_what_shows_no_digit_is_refused(image: bytes, said: str) -> None:
    """The scorer refuses such an image with the reason, and validation stops training data that has it."""
    with pytest.raises(BadRow, match=said):
        scorer.pixels({"image": np.array([GOOD, image], dtype=object)})
    assert not expectations.readable(image)


@pytest.mark.parametrize("mode", sorted(scorer.MODES))
def test_a_digit_may_be_grey_or_coloured(mode: str) -> None:
    """A grey, black and white, palette or coloured image gives the same pixels."""
    image = (drawn(0) > 50).astype(np.uint8) * 255
    converted = Image.fromarray(image).convert(mode)
    found = scorer.pixels({"image": np.array([saved(converted)], dtype=object)})
    np.testing.assert_array_equal(found[0, 0], image)


@pytest.mark.parametrize("cut", range(1, len(GOOD), 9))
def test_a_cut_image_is_whole_or_refused(cut: int) -> None:
    """A truncated PNG is refused, or gives the pixels of the whole image, but never others."""
    try:
        found = scorer.pixels({"image": np.array([GOOD[:cut]], dtype=object)})
    except BadRow:
        return
    np.testing.assert_array_equal(found[0, 0], drawn(0))


@pytest.fixture(scope="module")
def good() -> pd.DataFrame:
    """Return 1,200 images in two parts, each with every digit."""
    images = [source.png(drawn(seed)) for seed in range(1200)]
    part = np.where(np.arange(1200) // 10 % 6, "train", "test")
    labels = pd.Series(np.arange(1200) % 10, dtype="Int8")
    return pd.DataFrame({"id": map(str, range(1200)), "image": images, "label": labels, "part": part})


def examined(frame: pd.DataFrame) -> validate.Report:
    roles = models.Roles(id="id", label="label", part="part")
    table = pa.Table.from_pandas(frame, preserve_index=False)
    suite = expectations.suite(expectations.Params(), None)
    return validate.examine(table, suite, "image_classifier", roles)


READABLE = ("ExpectColumnValuesToBeReadableDigits", "image")
UNIQUE = ("ExpectColumnValuesToBeUnique", "image")
EVERY = ("ExpectColumnDistinctValuesToContainSet", "label")
SPOILT = {
    "an image is null": (setting("image", None), ("ExpectColumnValuesToNotBeNull", "image")),
    "an image is truncated": (setting("image", GOOD[:70]), READABLE),
    "an image is not a valid PNG": (setting("image", b"seven"), READABLE),
    "an image is a bomb": (setting("image", bomb(9_000)), READABLE),
    "an image has another size": (setting("image", BAD["another size"][0]), READABLE),
    "an image is blank": (setting("image", BAD["a blank image"][0]), READABLE),
    "an image comes twice": (lambda t: t.assign(image=[t.image[1], *t.image[1:]]), UNIQUE),
    "an image is in both parts": (lambda t: t.assign(image=[t.image[99], *t.image[1:]]), UNIQUE),
    "a label is 10": (setting("label", 10), ("ExpectColumnValuesToBeInSet", "label")),
    "a digit is missing": (lambda t: t[t.label != 7], EVERY),
    "a digit is missing in the test": (lambda t: t[(t.label != 7) | (t.part == "train")], EVERY),
    "most labels are 0": (setting("label", 0, 600), ("ExpectColumnMeanToBeBetween", "label")),
    "a part is unknown": (setting("part", "dev"), ("ExpectColumnValuesToBeInSet", "part")),
    "an id comes twice": (setting("id", "1"), ("ExpectColumnValuesToBeUnique", "id")),
    "rows are missing": (lambda t: t[:500], ("ExpectTableRowCountToBeBetween", "(table)")),
    "a column is missing": (lambda t: t.drop(columns="part"), ("ExpectTableColumnsToMatchSet", "(table)")),
}


@pytest.mark.parametrize(("spoil", "check"), SPOILT.values(), ids=SPOILT)
def test_bad_data_is_stopped(spoil, check: tuple[str, str], good: pd.DataFrame) -> None:
    """Each kind of bad data fails the critical check that is meant for it."""
    assert check in {(one.check, one.column) for one in examined(spoil(good)).critical}


def test_good_data_passes(good: pd.DataFrame) -> None:
    """Good rows pass every check; unknown labels lower the score, but do not stop the data."""
    assert examined(good).failed == []
    report = examined(setting("label", None, 12)(good).astype({"label": "Int8"}))
    assert (report.critical, report.score) == ([], pytest.approx(0.99))


def idx(path: Path, array: np.ndarray) -> Path:
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))
    return path


def test_the_publishers_files_keep_their_split(tmp_path: Path) -> None:
    """Each image of the publisher's IDX files keeps its pixels, its label and its part."""
    images, labels = np.stack([drawn(seed) for seed in range(5)]), np.arange(5, dtype=np.uint8)
    files = {}
    for prefix, rows in {"train": slice(3), "t10k": slice(3, 5)}.items():
        for name, array in ((source.IMAGES, images), (source.LABELS, labels)):
            files[f"https://example.com/{prefix}{name}"] = idx(tmp_path / f"{prefix}{name}", array[rows])
    found = pa.concat_tables(source.read(files)).sort_by("label")
    assert found["part"].to_pylist() == ["train"] * 3 + ["test"] * 2
    assert found["id"].to_pylist() == ["train 0", "train 1", "train 2", "test 0", "test 1"]
    pixels = scorer.pixels({"image": np.array(found["image"].to_pylist(), dtype=object)})
    np.testing.assert_array_equal(pixels[:, 0], images)
    one = {name: path for name, path in files.items() if source.LABELS not in name}
    with pytest.raises(LoopError, match=r"the source has no .*t10k-labels"):
        list(source.read(one))
    cut = files[f"https://example.com/t10k{source.IMAGES}"]
    cut.write_bytes(gzip.compress(gzip.decompress(cut.read_bytes())[:-1]))
    with pytest.raises(LoopError, match="is truncated"):
        list(source.read(files))


def test_other_sources_are_split_by_the_image(tmp_path: Path) -> None:
    """Parquet and CSV have about a sixth of their rows in the test part, and equal images in one part."""
    images = [drawn(seed) for seed in [*range(300), *range(300)]]
    labels = np.arange(600) % 10
    rows = {"id": np.arange(600), "image": [*map(source.png, images)], "label": pa.array(labels, pa.int8())}
    pq.write_table(pa.table(rows), tmp_path / "digits.parquet")
    cells = np.column_stack([np.stack(images).reshape(600, -1), labels])
    np.savetxt(tmp_path / "digits.csv.gz", cells, "%d", ",")
    tables = [*source.read({"digits.parquet": tmp_path / "digits.parquet"})]
    tables += source.read({"pypi://a==1/digits.csv.gz": tmp_path / "digits.csv.gz"})
    for name in ("image", "part"):
        assert tables[0][name].to_pylist() == tables[1][name].to_pylist()
    part = tables[0]["part"].to_pylist()
    assert part[:300] == part[300:]
    assert part.count("test") / 600 == pytest.approx(1 / 6, abs=0.05)


@pytest.fixture(scope="module")
def folder(repository: Path) -> models.ModelFolder:
    return models.load(repository, "image_classifier")


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    return {"image": np.array([source.png(drawn(seed)) for seed in range(64)], dtype=object)}


def fitted(folder, rows, **changes: object) -> dict[str, np.ndarray]:
    given = folder.estimator.Params(**{"epochs": 1, "batch": 16, "channels": (2, 3), "hidden": 8} | changes)
    return folder.estimator.fit(rows, np.arange(64) % 10, given)


@pytest.mark.slow
def test_a_seed_is_a_model_and_onnx_says_what_jax_does(folder, rows, tmp_path: Path) -> None:
    """The same seed gives the same bytes, another seed gives others, and ONNX scores like JAX."""
    for name, seed in {"one": 0, "again": 0, "other": 1}.items():
        (tmp_path / name).mkdir()
        weights = fitted(folder, rows, seed=seed)
        folder.estimator.save(weights, tmp_path / name)
    one, again, other = ((tmp_path / name / "model.onnx").read_bytes() for name in ("one", "again", "other"))
    assert one == again
    assert one != other
    import jax  # from the model's own lock; `folder` makes it importable

    wanted = jax.nn.softmax(folder.estimator.network(weights, scorer.pixels(rows)))
    found = scorer.load(tmp_path / "other")(rows)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_gpu_that_is_not_there_is_an_error(folder, rows, tmp_path: Path, monkeypatch) -> None:
    """Without the GPU that the settings require, neither training nor serving falls back to the CPU."""
    with pytest.raises(LoopError, match=r"train\.device: is 'cuda', but JAX finds no such device"):
        fitted(folder, rows, device="cuda")
    folder.estimator.save(folder.estimator.initial(folder.estimator.Params()), tmp_path)
    monkeypatch.setenv("SCORER_DEVICE", "cuda")
    with pytest.raises(ValueError, match="SCORER_DEVICE is cuda, but ONNX Runtime computes on"):
        scorer.load(tmp_path)


def test_a_profile_tells_an_image_that_is_drawn_otherwise() -> None:
    """An inverted, moved or faint digit changes the numbers of the profile that describe this."""
    plain = np.zeros((28, 28), np.uint8)
    plain[8:20, 11:17] = 200
    kinds = np.stack([plain, 255 - plain, np.roll(plain, 5, axis=1), plain // 4])
    images = np.array([*map(source.png, kinds)], dtype=object)
    found = scorer.Scorer(None).profile({"image": images}, np.empty(0))
    assert found["ink"][1] > 4 * found["ink"][0]
    assert found["off_centre"] == pytest.approx([0, found["off_centre"][1], 5, 0], abs=1e-6)
    assert found["contrast"][3] == pytest.approx(found["contrast"][0] / 4)
    assert (found["width"][0], found["height"][0]) == (6, 12)


def test_the_worst_digit_is_measured() -> None:
    """The metric is the lowest share of right answers of any digit."""
    labels, answered = np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 1, 1, 1])
    (worst,) = evaluation(None).metrics
    assert worst.of(Rows(labels, np.eye(2)[answered])) == 0.5
