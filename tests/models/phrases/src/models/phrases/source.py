"""Pairs of phrases by a seeded draw: each phrase mixes words of two topics, and pairs share some of both."""

import numpy as np
import pyarrow as pa

from loop.core.params import Section

TOPICS = (
    ("river", "boat", "harbour", "sail", "tide"),
    ("oven", "bread", "flour", "crust", "yeast"),
    ("court", "judge", "law", "appeal", "jury"),
    ("goal", "coach", "match", "pitch", "team"),
    ("chord", "melody", "choir", "verse", "tune"),
)


class Params(Section):
    pairs: int = 600


def simulate(params: Params) -> pa.Table:
    """Return two rows a pair."""
    rng = np.random.default_rng(0)
    mixed = rng.dirichlet([0.3] * len(TOPICS), (params.pairs, 2))
    near = rng.random(params.pairs)[:, None]
    mixed[:, 1] = near * mixed[:, 0] + (1 - near) * mixed[:, 1]
    lengths = np.linalg.norm(mixed, axis=2)
    alike = 5 * (mixed[:, 0] * mixed[:, 1]).sum(axis=1) / lengths.prod(axis=1)
    texts = [_phrase(rng, mix) for pair in mixed for mix in pair]
    pairs = np.repeat(np.arange(params.pairs), 2)
    ids = [f"p-{number:05d}" for number in range(len(texts))]
    return pa.table({"id": ids, "pair": pairs, "text": texts, "alike": np.repeat(alike, 2)})


def _phrase(rng: np.random.Generator, mix: np.ndarray) -> str:
    topics = rng.choice(len(TOPICS), rng.integers(8, 16), p=mix)
    return " ".join(str(rng.choice(TOPICS[topic])) for topic in topics)
