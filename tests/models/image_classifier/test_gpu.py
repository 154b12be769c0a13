"""The classifier trains on a GPU as well as on a CPU. Skipped without an NVIDIA GPU or JAX.

    PYTHONPATH=src python -m pytest -s --noconftest -o addopts= tests/models/image_classifier/test_gpu.py

It needs no network, takes a minute, and prints the seconds of a training step. Beside pytest, Python needs
only JAX with CUDA, optax, Pillow, onnx, onnxruntime, msgspec, pydantic, ruamel.yaml and pyarrow.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from loop.core.devices import has_gpu

pytestmark = pytest.mark.skipif(not has_gpu(), reason="no GPU here")
IMAGES, TRAINED, EPOCHS = 5000, 4000, 5
TOLERANCE = 0.01  # maximum difference in accuracy between devices, which round sums differently


def drawn() -> tuple[np.ndarray, np.ndarray]:
    """Return noisy images with a bright bar, whose row is the label."""
    from models.image_classifier import source

    random = np.random.default_rng(0)
    labels, images = random.integers(0, 10, IMAGES), random.integers(0, 128, (IMAGES, 28, 28), np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 + 2 * label, 4:24] |= 128
    return np.array([*map(source.png, images)], object), labels


def accuracy(device: str, folder: Path) -> float:
    """Train on a device, print the time of a step and one answer, and return the accuracy as saved."""
    from models.image_classifier import estimator, scorer

    images, labels = drawn()
    params = estimator.Params.model_validate({"device": device, "epochs": EPOCHS})
    given = {"image": images[:TRAINED]}, labels[:TRAINED]
    # the network is trained once before, so that compiling is not measured
    estimator.fit(*given, params.model_copy(update={"epochs": 1}))
    began = time.perf_counter()
    fitted = estimator.fit(*given, params)
    seconds = (time.perf_counter() - began) / (EPOCHS * (TRAINED // params.batch))
    estimator.save(fitted, folder)
    answers = scorer.load(folder)({"image": images[TRAINED:]}).argmax(axis=1)
    print(f"{device}: {seconds:.4f} s a step; answered {answers[0]}, the label is {labels[TRAINED]}")
    return float((answers == labels[TRAINED:]).mean())


def test_a_gpu_trains_as_well_as_a_cpu(tmp_path: Path) -> None:
    """The network learns on the GPU, and its ONNX file is as accurate as the one that a CPU trained."""
    pytest.importorskip("jax")
    found = {}
    for device in ("cpu", "cuda"):
        (folder := tmp_path / device).mkdir()
        found[device] = accuracy(device, folder)
    assert found["cuda"] > 0.5
    assert found["cuda"] == pytest.approx(found["cpu"], abs=TOLERANCE)
