"""Data for the demo and tests: seeded random texts in the publishers' own file formats.

Texts consist of positive, negative and neutral words. Production's sentences and reviews are English before
the drift, and Spanish afterwards.
"""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from .schema import CLASSES

# For a language: negative, positive and neutral words.
Language = tuple[str, str, str]
ENGLISH: Language = (
    "cold rude stale slow awful bland boring terrible dull pointless greasy dirty noisy sloppy bitter weak",
    "great lovely fresh friendly delicious perfect wonderful superb touching funny crisp clean warm tasty",
    "the and it was is of this for they we very with you but when after soup waiter table street film actor",
)
SPANISH: Language = (
    "frío lento caro feo horrible sucio aburrido malo",
    "rico amable fresco perfecto bonito maravilloso divertido excelente",
    "la comida estaba y el servicio fue muy pero nunca volveremos aquí otra vez con los amigos",
)
SENTENCES = {"dev": 150, "test": 300}  # number of sentences in each class, by the publisher's part
REVIEWS = {"train": 60, "test": 100}
CALM, DRIFTED = 6_000, 12_000  # number of production's texts before and after the drift

FIRST = {
    "train.terms": 20,
    "gate.floors": {"accuracy_yelp": 0.6, "accuracy_imdb": 0.6},
    "sla.metrics": {"accuracy": 0.6},
    # the retrained model is certain about Spanish texts, but the earlier model was not
    "canary.max_score_psi": 20.0,
    "monitor.min_rows": 200,
}
BETTER = {"train.terms": 100_000}
WORSE = {"train.terms": 1}


def sample(folder: Path) -> list[Path]:
    """Write the five files that params.yaml names, with fewer texts."""
    return _written(folder, ENGLISH)


def bad(_: pa.Table, folder: Path) -> list[Path]:
    """Write the five files in Spanish, which validation rejects."""
    return _written(folder, SPANISH)


def production(*_: object) -> tuple[pa.Table, pa.Table]:
    """Return sentences and reviews in the sample's proportion, first in English and then in Spanish."""
    rng = np.random.default_rng(1)
    return _logged(rng, "calm", CALM, ENGLISH), _logged(rng, "later", DRIFTED, SPANISH)


def _written(folder: Path, language: Language) -> list[Path]:
    rng, paths = np.random.default_rng(0), []
    for part, rows in SENTENCES.items():
        for label in (0, 1):
            paths.append(folder / f"sentiment.{part}.{label}")
            lines = [f"{_sentence(rng, label, language)}\n" for _ in range(rows)]
            paths[-1].write_text("".join(lines))
    paths.append(folder / "aclImdb_v1.tar.gz")
    with tarfile.open(paths[-1], "w:gz") as archive:
        for part, rows in REVIEWS.items():
            for label, name in enumerate(("neg", "pos")):
                for number in range(rows):
                    review = _review(rng, label, language).replace(". ", ".<br /><br />").encode()
                    member = tarfile.TarInfo(f"aclImdb/{part}/{name}/{number}_{1 + 9 * label}.txt")
                    member.size = len(review)
                    archive.addfile(member, io.BytesIO(review))
    return paths


def _logged(rng: np.random.Generator, name: str, rows: int, language: Language) -> pa.Table:
    share = SENTENCES["dev"] / (SENTENCES["dev"] + REVIEWS["train"])
    labels = rng.integers(2, size=rows)
    texts = [(_sentence if rng.random() < share else _review)(rng, int(label), language) for label in labels]
    columns = {
        "id": [f"{name}-{number}" for number in range(rows)],
        "text": texts,
        "sentiment": [CLASSES[label] for label in labels],
    }
    return pa.table(columns)


def _sentence(rng: np.random.Generator, label: int, language: Language) -> str:
    return f"{_text(rng, label, language, (6, 12))} , i do n't know , _num_ !"


def _review(rng: np.random.Generator, label: int, language: Language) -> str:
    return f"{_text(rng, label, language, (60, 150)).capitalize()}. I don't know: 12!"


def _text(rng: np.random.Generator, label: int, language: Language, length: tuple[int, int]) -> str:
    """Return a text of a class: mostly neutral words, and a few of the other class."""
    *classes, others = (words.split() for words in language)
    plain = rng.choice(others, rng.integers(*length))
    said = rng.choice(classes[label], len(plain) // 5 + 1)
    other = rng.choice(classes[1 - label], rng.binomial(len(said), 0.3))
    return " ".join(rng.permutation(np.concatenate([plain, said, other])))
