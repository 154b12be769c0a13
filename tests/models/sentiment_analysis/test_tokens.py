"""Typed text gives the same words as published text, and a row without text is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop.runtime.columns import BadRow
from models.sentiment_analysis import scorer
from models.sentiment_analysis.estimator import save

pytestmark = pytest.mark.contract
CUT = {  # typed text: published text
    "don't": "do n't",
    "can't": "ca n't",
    "It's": "it 's",
    "I've": "i 've",
    "we'll": "we 'll",
    "I'd": "i 'd",
    "they're": "they 're",
    "I'm": "i 'm",
    "cannot": "can not",
    "gonna": "gon na",
    "wanna": "wan na",
    "gotta": "got ta",
    "12": "_num_",
    "don\u2019t": "do n't",
}
PLAIN = st.from_regex(r"[a-z]{1,8}", fullmatch=True).filter(
    lambda word: word not in {"can", "not", "got", "ta", "gon", "wan", "gan", "won", "na", "_num_"}
)
WORDS = st.one_of(PLAIN.map(lambda word: (word.capitalize(), word)), st.sampled_from(sorted(CUT.items())))
MARKS = st.sampled_from(["", ",", ".", "!", "?", "..."])


@given(st.lists(st.tuples(WORDS, MARKS), min_size=1, max_size=12))
def test_typed_text_gives_the_words_of_published_text(pieces) -> None:
    """Capitals, contractions, numbers and punctuation without blanks change no word."""
    typed = " ".join(word + mark for (word, _), mark in pieces)
    published = " ".join(f"{word} {mark}".strip() for (_, word), mark in pieces)
    assert scorer.words(typed) == scorer.words(published)
    assert len(scorer.terms(typed)) == len(set(scorer.terms(typed)))


def test_words_of_a_sentence() -> None:
    """Contractions stay whole, numbers are one word, and of punctuation only ! and ? count."""
    assert scorer.words("Don\u2019t go: it's 12.50 $, isn't it?!") == [
        *("don't", "go", "it's", "_num_", "_num_", "isn't", "it", "?", "!")
    ]


@pytest.fixture
def fitted(tmp_path: Path) -> scorer.Scorer:
    """Return a scorer that knows three terms."""
    save(scorer.Terms(-0.1, {"good": (1.0, 2.0), "bad": (1.0, -2.0), "not good": (4.0, -9.0)}), tmp_path)
    return scorer.load(tmp_path)


@pytest.fixture
def score(fitted: scorer.Scorer):
    """Return a function that scores texts."""
    return lambda *texts: fitted({"text": np.array(texts, object)})


@pytest.mark.parametrize(
    ("text", "said"),
    {
        "": "no letter",
        "  \n\t": "no letter",
        "12 / 10 !!!": "no letter",
        "\U0001f600\U0001f600": "no letter",
        "Очень вкусно": "no letter",
        "a" * (scorer.LONGEST + 1): "20001 characters, should have 20000 at most",
        "good " * 200_000: "at most",
    }.items(),
)
def test_what_is_no_text_is_refused(score, text: str, said: str) -> None:
    """A text without a letter, or too long a text, is an error of the caller."""
    with pytest.raises(BadRow, match=said):
        score(text)


def test_weights_are_added_up(score) -> None:
    """Each known word or pair counts once, and the sum is divided by the norm of the text's vector."""
    odds = [-0.1, 1.9, 1.9, -0.1, -0.1 + (2 - 9) / np.sqrt(5)]
    scores = score("xyz", "good", "Good, GOOD xyz", "good bad", "not good")
    np.testing.assert_allclose(scores, 1 / (1 + np.exp(-np.array(odds))))


def test_the_profile_shows_another_language(fitted: scorer.Scorer) -> None:
    """The profile of a row has the number of words, the share of unknown words, and that of non-letters."""
    texts = {"text": np.array(["good bad!", "la comida era mala", "_num_ good"], object)}
    found = fitted.profile(texts, np.zeros(3))
    assert {name: values.tolist() for name, values in found.items()} == {
        "words": [3, 4, 2],
        "unknown": pytest.approx([1 / 3, 1, 0.5]),
        "nonletters": pytest.approx([1 / 8, 0, 1 / 5]),
    }
