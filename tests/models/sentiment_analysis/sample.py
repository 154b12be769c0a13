"""A small world in the publishers' own formats: sentences one a line, reviews one a file of an archive.

A seeded draw makes the texts, of words that praise, blame or say nothing.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

WORDS = {
    1: "great lovely fresh friendly delicious perfect wonderful superb touching funny",
    0: "cold rude stale slow awful bland boring terrible dull pointless",
}
OTHERS = (
    "the and it was is of this for they we very with you but so are were there when after before soup "
    "waiter table street film actor plot scene ending director evening tuesday money story camera music"
)
SPANISH = "la comida estaba muy rica y el servicio fue rápido pero caro nunca volveremos aquí otra vez"
SENTENCES = {"dev": 350, "test": 150}  # of each class
REVIEWS = {"train": 200, "test": 100}

ROW = {"text": "Great food, and they don't mind the 12 minutes!"}
PARAMS: dict[str, object] = {
    "gate.floors": {"accuracy_yelp": 0.85, "accuracy_imdb": 0.85},
}


def write(folder: Path) -> list[Path]:
    """Write the sample's five files."""
    rng, paths = np.random.default_rng(0), []
    for part, rows in SENTENCES.items():
        for label in (0, 1):
            paths.append(folder / f"sentiment.{part}.{label}")
            lines = [f"{text(rng, label, 6, 12)} , i do n't know , _num_ !\n" for _ in range(rows)]
            paths[-1].write_text("".join(lines))
    paths.append(folder / "aclImdb_v1.tar.gz")
    with tarfile.open(paths[-1], "w:gz") as archive:
        for part, rows in REVIEWS.items():
            for label, name in enumerate(("neg", "pos")):
                for number in range(rows):
                    review = (
                        f"{text(rng, label, 60, 150).capitalize()}.<br /><br />I don't know: 12!".encode()
                    )
                    member = tarfile.TarInfo(f"aclImdb/{part}/{name}/{number}_{1 + 9 * label}.txt")
                    member.size = len(review)
                    archive.addfile(member, io.BytesIO(review))
    return paths


def text(rng: np.random.Generator, label: int, least: int, most: int) -> str:
    """A text of a class: mostly words that say nothing, and now and then one of the other class."""
    plain = rng.choice(OTHERS.split(), rng.integers(least, most))
    said = rng.choice(WORDS[label].split(), len(plain) // 5 + 1)
    other = rng.choice(WORDS[1 - label].split(), rng.binomial(len(said), 0.2))
    return " ".join(rng.permutation(np.concatenate([plain, said, other])))


def DRIFT(rows: pa.Table) -> pa.Table:  # noqa: N802 - the shared test's name
    """The same rows in another language."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(SPANISH.split(), len(old.split()))) for old in rows["text"].to_pylist()]
    return rows.set_column(rows.schema.get_field_index("text"), "text", pa.array(texts))
