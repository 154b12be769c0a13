"""Reads images and says how likely each digit is: the network that estimator.py saved, under ONNX Runtime."""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loop.runtime import settings
from loop.runtime.columns import BadRow

SIDE = 28  # pixels
LARGEST = 16 * 1024  # bytes; an image of this size needs a few hundred
MODES = {"1", "L", "P", "RGB"}  # of Pillow: black and white, grey, palette, colours; none is transparent
CUDA = "CUDAExecutionProvider"
Rows = Mapping[str, NDArray[Any]]


def pixels(rows: Rows) -> NDArray[np.uint8]:
    """(n, 1, 28, 28) brightness; BadRow for what is no image of a digit."""
    return np.stack([_decoded(image) for image in rows["image"]])[:, None]


def _decoded(image: bytes) -> NDArray[np.uint8]:
    """(28, 28) brightness. Size and kind are checked before a pixel is unpacked."""
    if len(image) > LARGEST:
        raise BadRow(f"has {len(image)} bytes; {LARGEST} at most")
    try:
        with Image.open(BytesIO(image), formats=["PNG"]) as opened:
            size, mode = opened.size, opened.mode
            fits = size == (SIDE, SIDE) and mode in MODES and "transparency" not in opened.info
            found = np.asarray(opened.convert("L")) if fits else None
    except Exception as error:  # Pillow raises many kinds for broken files
        raise BadRow("is no PNG, or a broken one") from error
    if found is None:
        raise BadRow(f"is {size[0]} x {size[1]} pixels ({mode}); should be {SIDE} x {SIDE}, not transparent")
    if found.min() == found.max():
        raise BadRow("is blank: all its pixels are equal")
    return found


class Scorer:
    """n images to (n, 10) probabilities."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, rows: Rows) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._session.run(None, {"pixels": pixels(rows)})[0]
        return scores

    def profile(self, rows: Rows, _: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """How bright and how strongly drawn an image is, how wide, tall and far off its middle the digit.

        How sure the answer is stands in the log anyway, as its score.
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
    """The scorer, on SCORER_DEVICE.

    ValueError where ONNX Runtime finds no GPU and was to use one: it would go on with the CPU.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a replica is one process on one core
    providers: list[Any] = ["CPUExecutionProvider"]
    if (device := settings.device()) == "cuda":
        onnxruntime.preload_dlls()  # the CUDA libraries that the lock has
        providers = [(CUDA, {"use_tf32": "0"}), *providers]  # TF32 would round scores to three digits
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers)
    if device == "cuda" and CUDA not in session.get_providers():
        raise ValueError(f"SCORER_DEVICE is cuda, and ONNX Runtime computes on {session.get_providers()}")
    return Scorer(session)
