"""The teacher computes the same vectors on a GPU as on a CPU. Skipped without an NVIDIA GPU or JAX.

    PYTHONPATH=src python -m pytest -s --noconftest -o addopts= tests/models/text_embedding/test_gpu.py

It needs no network, takes a minute, and prints the seconds of both. Beside pytest, Python needs only JAX with
CUDA, SciPy, threadpoolctl, msgspec, pydantic and ruamel.yaml. The weights are random, because the teacher's
are too large to copy to such a machine.
"""

import time

import numpy as np
import pytest

from loop.core.devices import has_gpu

pytestmark = pytest.mark.skipif(not has_gpu(), reason="no GPU here")
# sizes of all-MiniLM-L6-v2: hidden and inner layers, word pieces, positions
HIDDEN, INNER, PIECES, PLACES = 384, 1536, 30_522, 512
SAME = 1e-3  # maximum difference between two devices' vectors, which have length 1


def weights(layers: int) -> dict[str, np.ndarray]:
    """Return random weights with the shapes of the teacher's."""
    random = np.random.default_rng(0)
    sizes = {"word": PIECES, "position": PLACES, "token_type": 2}
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (size, HIDDEN) for name, size in sizes.items()
    }
    square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    dense = dict.fromkeys(square, (HIDDEN, HIDDEN))
    dense |= {"intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}
    norms = ["embeddings"]
    for layer in (f"encoder.layer.{number}" for number in range(layers)):
        shapes |= {f"{layer}.{name}.weight": shape for name, shape in dense.items()}
        shapes |= {f"{layer}.{name}.bias": shape[:1] for name, shape in dense.items()}
        norms += [f"{layer}.attention.output", f"{layer}.output"]
    made = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        made[f"{name}.LayerNorm.weight"] = np.ones(HIDDEN, np.float32)
        made[f"{name}.LayerNorm.bias"] = np.zeros(HIDDEN, np.float32)
    return made


def vectors(device: str) -> np.ndarray:
    """Return vectors (256, 384) of texts with 32 random word pieces, and print the seconds that it took."""
    import jax

    from models.text_embedding import estimator

    pieces = np.random.default_rng(1).integers(1_000, PIECES, (256, 32))
    with jax.default_device(jax.devices(device)[0]), jax.default_matmul_precision("highest"):
        placed = {name: jax.device_put(value) for name, value in weights(estimator.LAYERS).items()}
        run = jax.jit(estimator.forward)
        # the network runs once before, so that compiling is not measured
        run(placed, pieces).block_until_ready()
        began = time.perf_counter()
        found = np.asarray(run(placed, pieces))
    print(f"{device}: {time.perf_counter() - began:.4f} s for 256 texts")
    return found


def test_a_gpu_gives_the_teachers_vectors() -> None:
    pytest.importorskip("jax")
    np.testing.assert_allclose(vectors("cuda"), vectors("cpu"), atol=SAME)
