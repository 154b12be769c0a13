"""Checks that the teacher computes on a GPU, and that its vectors equal those of a CPU.

    PYTHONPATH=src python -m models.text_embedding.prove_gpu

It needs neither this repository's environment nor a network, and takes a minute. Python needs JAX with CUDA,
SciPy, threadpoolctl, msgspec, pydantic and ruamel.yaml. The weights are random, because the teacher's weights
are too large to copy to such a machine. `--device cpu` tries the script without a GPU.
"""

import argparse
import json
import sys
import time

import numpy as np

from . import estimator

# sizes of all-MiniLM-L6-v2: hidden and inner layers, word pieces, positions
HIDDEN, INNER, PIECES, PLACES = 384, 1536, 30_522, 512
SAME = 1e-3  # maximum difference between two devices' vectors, which have length 1


def weights() -> dict[str, np.ndarray]:
    """Return random weights with the shapes of the teacher model's weights."""
    random = np.random.default_rng(0)
    sizes = {"word": PIECES, "position": PLACES, "token_type": 2}
    shapes: dict[str, tuple[int, ...]] = {
        f"embeddings.{name}_embeddings.weight": (size, HIDDEN) for name, size in sizes.items()
    }
    square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
    dense = dict.fromkeys(square, (HIDDEN, HIDDEN))
    dense |= {"intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}
    layers, norms = [f"encoder.layer.{number}" for number in range(estimator.LAYERS)], ["embeddings"]
    for layer in layers:
        shapes |= {f"{layer}.{name}.weight": shape for name, shape in dense.items()}
        shapes |= {f"{layer}.{name}.bias": shape[:1] for name, shape in dense.items()}
        norms += [f"{layer}.attention.output", f"{layer}.output"]
    made = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    for name in norms:
        made[f"{name}.LayerNorm.weight"] = np.ones(HIDDEN, np.float32)
        made[f"{name}.LayerNorm.bias"] = np.zeros(HIDDEN, np.float32)
    return made


def vectors(device: str) -> tuple[np.ndarray, float]:
    """Return vectors (256, 384) of texts with 32 random word pieces, and the seconds to compute them."""
    import jax

    pieces = np.random.default_rng(1).integers(1_000, PIECES, (256, 32))
    with jax.default_device(jax.devices(device)[0]), jax.default_matmul_precision("highest"):
        placed = {name: jax.device_put(value) for name, value in weights().items()}
        run = jax.jit(estimator.forward)
        # the network runs once before, so that compiling is not measured
        run(placed, pieces).block_until_ready()
        began = time.perf_counter()
        found = np.asarray(run(placed, pieces))
    return found, time.perf_counter() - began


def main() -> None:
    """Compare both devices and print the results as JSON; exit with 1 if their vectors differ."""
    import jax

    parser = argparse.ArgumentParser("prove_gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    given = parser.parse_args()
    device = jax.devices(given.device)[0]  # raises RuntimeError on a machine without this device
    (ours, slow), (theirs, quick) = vectors("cpu"), vectors(given.device)
    apart = float(np.abs(ours - theirs).max())
    seconds = {"cpu": slow, given.device: quick}
    said = {"device": device.device_kind, "jax": jax.__version__, "seconds": seconds, "furthest_apart": apart}
    print(json.dumps(said, indent=1))
    sys.exit(0 if apart <= SAME else 1)


if __name__ == "__main__":
    main()
