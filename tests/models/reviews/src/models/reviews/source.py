"""Sentences by a seeded draw, of words that praise, blame or say nothing."""

import numpy as np
import pyarrow as pa

from loop.core.params import Section

WORDS = {
    "positive": ("great", "lovely", "fresh", "friendly", "delicious", "perfect"),
    "negative": ("cold", "rude", "stale", "slow", "awful", "bland"),
}
OTHERS = ("the", "soup", "waiter", "was", "and", "we", "came", "on", "tuesday", "naïve", "very", "table")


class Params(Section):
    sentences: int = 1500


def simulate(params: Params) -> pa.Table:
    """Return one row a sentence."""
    rng = np.random.default_rng(0)
    texts, opinions = [], rng.choice([*WORDS], params.sentences).tolist()
    for opinion in opinions:
        plain = rng.choice(OTHERS, rng.integers(3, 12)).tolist()
        said = rng.choice(WORDS[opinion], rng.integers(0, 4)).tolist()
        texts.append(" ".join(rng.permutation([*plain, *said])))
    ids = [f"r-{number:04d}" for number in range(params.sentences)]
    return pa.table({"id": ids, "text": texts, "opinion": opinions})
