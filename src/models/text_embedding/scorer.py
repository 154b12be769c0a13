"""Computes a text's vector, the mean of its word pieces' vectors scaled to length 1."""

import os
import re
import unicodedata
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loop.runtime import settings
from loop.runtime.columns import BadRow, Columns

Floats = NDArray[np.float32]
LONGEST = 10_000  # maximum characters of a text
LONGEST_WORD = 100  # maximum characters of a word, as in BERT
KEPT = 200_000  # maximum number of words whose pieces are cached; other words are split each time
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")
COMMON_WORDS = (
    "a an and are as at be by for from has have he her his i in is it its not of on or she that the their "
    "they this to was we were who will with you"
)
# texts in other languages, code and numbers contain few of these words
COMMON = frozenset(COMMON_WORDS.split())


class Pieces(dict[str, tuple[int, ...]]):
    """Maps words to the numbers of their word pieces, as BERT splits them; () if a word has none."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        super().__init__()
        self.numbers = {piece: number for number, piece in enumerate(vocabulary)}

    def __missing__(self, word: str) -> tuple[int, ...]:
        if len(word) > LONGEST_WORD:  # not cached, because callers could fill the memory with such words
            return ()
        found = self._cut(word)
        if len(self) < KEPT:
            self[word] = found
        return found

    def _cut(self, word: str) -> tuple[int, ...]:
        """Split a word by repeatedly taking the longest word piece with which the rest begins."""
        found, begin = [], 0
        while begin < len(word):
            mark = "##" if begin else ""
            ends = range(len(word), begin, -1)
            if not (end := next((end for end in ends if mark + word[begin:end] in self.numbers), 0)):
                return ()
            found.append(self.numbers[mark + word[begin:end]])
            begin = end
        return tuple(found)

    def of(self, text: str) -> list[int]:
        """Return the word pieces of a text; words without pieces are left out."""
        return [*chain.from_iterable(map(self.__getitem__, words(text)))]


def words(text: str) -> list[str]:
    """Return the words and punctuation marks of a text, in lower case and without accents."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return WORD.findall(text.lower())


class Scorer:
    """Converts n texts to vectors (n, d) of length 1. Raises BadRow for a text without known words."""

    def __init__(self, folder: Path) -> None:
        self.vectors = np.load(folder / "vectors.npy").astype(np.float32)
        self.pieces = Pieces((folder / "vocabulary.txt").read_text().splitlines())

    def __call__(self, rows: Columns) -> Floats:
        return np.array([self._vector(text) for text in rows["text"]])

    def _vector(self, text: str) -> Floats:
        total: Floats = self.vectors.take(self.cut(text), axis=0).sum(axis=0)
        return total / np.sqrt(total @ total)

    def cut(self, text: str) -> list[int]:
        """Return the word pieces of a text. Raises BadRow if it has none, or is too long."""
        if len(text) > LONGEST:
            raise BadRow(f"has {len(text):,} characters, should have {LONGEST:,} at most")
        if not (found := self.pieces.of(text)):
            raise BadRow("is empty, or has no word that the model knows")
        return found

    def profile(self, rows: Columns, vectors: NDArray[Any]) -> dict[str, Floats]:
        """Return statistics of how a text is written, and its vector's first three principal components."""
        written = np.array([_written(text) for text in rows["text"]], np.float64)
        main = {f"direction_{place + 1}": vectors[:, place] for place in range(3)}
        named = dict(zip(("words", "letters_a_word", "common_words"), written.T, strict=True))
        return {**named, **main}


class OnGpu(Scorer):
    """Computes the same vectors on a GPU: JAX sums the pieces of all texts of a request in one call."""

    def __init__(self, folder: Path, device: str = "cuda") -> None:
        """Load the vectors onto the device. Raises ValueError if JAX does not have the device."""
        # by default JAX reserves 3/4 of the GPU's memory
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        import jax

        super().__init__(folder)
        try:
            [found, *_] = jax.devices(device)
        except RuntimeError as error:
            raise ValueError(f"SCORER_DEVICE is {device}, but JAX has no such device: {error}") from error
        self._table, self._sums = jax.device_put(self.vectors, found), jax.jit(_sums, static_argnums=3)

    def __call__(self, rows: Columns) -> Floats:
        found = [self.cut(text) for text in rows["text"]]
        of = np.repeat(np.arange(len(found)), [*map(len, found)])
        # JAX compiles once per size, so sizes are rounded up to powers of two. The padding counts as one more
        # text, whose vector is dropped.
        size, texts = (1 << count.bit_length() for count in (len(of), len(found)))
        pieces = np.zeros(size, np.int32)
        pieces[: len(of)] = [*chain.from_iterable(found)]
        owners = np.full(size, len(found), np.int32)
        owners[: len(of)] = of
        return np.asarray(self._sums(self._table, pieces, owners, texts))[: len(found)]


def _sums(table: Any, pieces: Any, owners: Any, texts: int) -> Any:
    """Return each text's sum of its pieces' vectors, (texts, d), scaled to length 1."""
    import jax
    import jax.numpy as jnp

    sums = jax.ops.segment_sum(table[pieces], owners, texts)
    return sums / jnp.linalg.norm(sums, axis=1, keepdims=True)


def load(folder: Path) -> Scorer:
    """Return the scorer for SCORER_DEVICE. Raises ValueError if that is cuda and JAX finds no GPU."""
    return OnGpu(folder) if settings.device() == "cuda" else Scorer(folder)


def _written(text: str) -> tuple[int, float, float]:
    """Return the number of words and marks, their mean length, and the share that is common in English."""
    found = words(text)
    count = max(len(found), 1)
    return len(found), sum(map(len, found)) / count, sum(map(COMMON.__contains__, found)) / count
