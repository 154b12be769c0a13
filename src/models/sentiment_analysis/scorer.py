"""Splits texts into words, and adds the weights of words and word pairs."""

import re
from functools import cached_property
from itertools import pairwise
from math import log, sqrt
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from loop.runtime.columns import BadRow, Columns

Floats = NDArray[np.float64]

FILE = "terms.json"
LONGEST = 20_000  # maximum characters of a text; the longest film review has 13,704
# a term whose squared length is at most this occurs in one of 5,000 training texts or more
COMMON = (log(5000) + 1) ** 2
LETTER = re.compile(r"[A-Za-z]")
LETTERS = re.compile(r"[^\W\d_]+")
NUMBER = "_num_"  # the publisher of the Yelp sentences wrote this in place of each number
WORD = re.compile(rf"{NUMBER}|\d+|[^\W\d_]+(?:'[^\W\d_]+)*|[!?]")
# Matches the blank in "do n't", "it 's" and "can not", which the publisher of the Yelp sentences inserted.
CUT = re.compile(
    r"(?<=\w) +(?=n't\b|'(?:s|m|re|ve|ll|d)\b)"
    r"|(?<=\bcan) +(?=not\b)|(?<=\bgot) +(?=ta\b)|(?<=\b[gw][oa]n) +(?=na\b)"
)
QUOTES = str.maketrans(dict.fromkeys("\u2018\u2019\u00b4`", "'"))


class Terms(msgspec.Struct, dict=True):
    """A fitted model: for each term, its squared length in a text's vector, and its weight."""

    bias: float
    known: dict[str, tuple[float, float]]

    @cached_property
    def common(self) -> frozenset[str]:
        """The terms that occur in at least one of 5,000 training texts.

        The profile counts all other words as unknown. If words that occur once or twice in training counted
        as known, only training texts would contain them, and every new text would seem to drift.
        """
        return frozenset(term for term, (squared, _) in self.known.items() if squared <= COMMON)


def words(text: str) -> list[str]:
    """Return a text's words in lower case, its ! and ?, and `_num_` for each number."""
    found = WORD.findall(CUT.sub("", text.lower().translate(QUOTES)))
    return [NUMBER if word[0].isdecimal() else word for word in found]


def terms(text: str) -> list[str]:
    """Return the distinct words and word pairs of a text, in an order that is the same in every process."""
    cut = words(text)
    return list(dict.fromkeys([*cut, *map(" ".join, pairwise(cut))]))


class Scorer:
    """Predicts probabilities (n,) that texts are positive. Raises BadRow for a text it cannot read."""

    def __init__(self, folder: Path) -> None:
        self.fitted = msgspec.json.decode((folder / FILE).read_bytes(), type=Terms)

    def __call__(self, rows: Columns) -> Floats:
        return 1 / (1 + np.exp(-np.array([self._odds(text) for text in rows["text"]])))

    def _odds(self, text: str) -> float:
        if len(text) > LONGEST:
            raise BadRow(f"text has {len(text)} characters, should have {LONGEST} at most")
        if not LETTER.search(text):
            raise BadRow("text has no letter from A to Z, but this model reads English")
        known = self.fitted.known
        found = [known[term] for term in terms(text) if term in known]
        length = sqrt(sum([squared for squared, _ in found])) or 1.0
        return self.fitted.bias + sum([weight for _, weight in found]) / length

    def profile(self, rows: Columns, _: Floats) -> dict[str, Floats]:
        """Return each text's number of words and its shares of unknown words and of non-letters."""
        cut, common = [words(text) for text in rows["text"]], self.fitted.common
        unknown = [sum([word not in common for word in each]) / max(len(each), 1) for each in cut]
        return {
            "words": np.array([len(each) for each in cut], np.float64),
            "unknown": np.array(unknown),
            "nonletters": np.array([_nonletters(text) for text in rows["text"]]),
        }


load = Scorer


def _nonletters(text: str) -> float:
    """Return the share of characters that are neither letters nor spaces; `_num_` counts as one."""
    written = "".join(text.replace(NUMBER, "0").split())
    return 1 - len("".join(LETTERS.findall(written))) / max(len(written), 1)
