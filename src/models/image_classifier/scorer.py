"""Reads images and predicts their digits with the network that estimator.py saved, in ONNX Runtime."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.runtime import settings
from loop.runtime.columns import BadRow, Columns

SIDE = 28  # width and height of an image in pixels
LARGEST = 16 * 1024  # maximum bytes of an image; 28 x 28 pixels need a few hundred
# accepted Pillow modes: black and white, grey, palette, colour; all without transparency
MODES = {"1", "L", "P", "RGB"}
CUDA = "CUDAExecutionProvider"


def pixels(rows: Columns) -> NDArray[np.uint8]:
    """Return the images' brightness (n, 1, 28, 28). Raises BadRow if one is not an image of a digit."""
    return np.stack([_decoded(image) for image in rows["image"]])[:, None]


def _decoded(image: bytes) -> NDArray[np.uint8]:
    """Return an image's brightness (28, 28). Size and mode are checked before the pixels are decoded."""
    if len(image) > LARGEST:
        raise BadRow(f"has {len(image)} bytes, should have {LARGEST} at most")
    try:
        with Image.open(BytesIO(image), formats=["PNG"]) as opened:
            size, mode = opened.size, opened.mode
            fits = size == (SIDE, SIDE) and mode in MODES and "transparency" not in opened.info
            found = np.asarray(opened.convert("L")) if fits else None
    except Exception as error:  # Pillow raises many kinds of errors for broken files
        raise BadRow("is not a valid PNG") from error
    if found is None:
        raise BadRow(f"is {size[0]} x {size[1]} pixels ({mode}); should be {SIDE} x {SIDE}, not transparent")
    if found.min() == found.max():
        raise BadRow("is blank, because all its pixels are equal")
    return found


class Scorer:
    """Predicts the probabilities (n, 10) of the digits in n images."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, rows: Columns) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run(None, {"pixels": pixels(rows)})[0]
        return scores

    def profile(self, rows: Columns, _: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return brightness, contrast, and the digit's width, height and distance from the centre, each (n,).

        The model's certainty is not included, because the log contains the score anyway.
        """
        ink = pixels(rows)[:, 0] / 255
        places, drawn = np.arange(SIDE) - (SIDE - 1) / 2, ink > 0.5
        mass = np.maximum(ink.sum(axis=(1, 2)), 1e-9)
        aside = [(ink.sum(axis=axis) * places).sum(axis=1) / mass for axis in (1, 2)]
        return {
            "ink": ink.mean(axis=(1, 2)),
            "contrast": ink.std(axis=(1, 2)),
            "width": drawn.any(axis=1).sum(axis=1).astype(np.float64),
            "height": drawn.any(axis=2).sum(axis=1).astype(np.float64),
            "off_centre": np.hypot(*aside),
        }


def load(folder: Path) -> Scorer:
    """Return the scorer, which computes on SCORER_DEVICE.

    Raises ValueError if that is a GPU and ONNX Runtime finds none, because it would use the CPU without an
    error.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a replica is one process with one core
    providers: list[Any] = ["CPUExecutionProvider"]
    if (device := settings.device()) == "cuda":
        onnxruntime.preload_dlls()  # loads the CUDA libraries from the lock's packages
        providers = [(CUDA, {"use_tf32": "0"}), *providers]  # TF32 would round scores to three digits
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers)
    if device == "cuda" and CUDA not in session.get_providers():
        raise ValueError(f"SCORER_DEVICE is cuda, but ONNX Runtime computes on {session.get_providers()}")
    return Scorer(session)
