"""Trains a small convolutional network with JAX, on a CPU or an NVIDIA GPU, and saves it as ONNX."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from loop.core.devices import of_jax
from loop.core.params import Section
from loop.runtime.columns import Columns

from .scorer import SIDE, pixels

# the convolutions use strides instead of pooling, whose gradient is slow on a CPU
CLASSES, KERNEL, STRIDE, PAD = 10, 5, 2, 2
OPSET, IR = 17, 8  # ONNX versions that every ONNX Runtime of the last years supports
Weights = dict[str, Any]  # weights of the network by name, in the shapes that ONNX requires


class Params(Section):
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(2, gt=0)  # CPU threads; fixed, because another number rounds sums differently
    seed: int = 0
    epochs: int = Field(8, gt=0)
    batch: int = Field(128, gt=0)
    learning_rate: float = Field(0.002, gt=0)  # initial learning rate; it decreases to 0 along a cosine
    shift: int = Field(1, ge=0)  # maximum random shift of an image in pixels, drawn again in each epoch
    channels: tuple[int, int] = (24, 48)  # output channels of the two convolutions
    hidden: int = Field(32, gt=0)  # units of the hidden dense layer


def fit(rows: Columns, digits: NDArray[np.int64], params: Params) -> Weights:
    """Train on n images and their digits (n,). Raises LoopError if `params.device` is not available."""
    device = of_jax(params.device, params.threads)
    import jax

    with jax.default_device(device):
        weights = _trained(pixels(rows), digits.astype(np.int32), params)
        return {name: np.asarray(value) for name, value in weights.items()}


def _trained(images: NDArray[np.uint8], digits: NDArray[np.int32], params: Params) -> Weights:
    """Minimise cross entropy with AdamW, on batches of equal size in a new random order for each epoch."""
    import jax
    import optax

    steps = max(1, len(images) // params.batch)
    order = np.random.default_rng(params.seed)
    optimizer = optax.adamw(optax.cosine_decay_schedule(params.learning_rate, steps * params.epochs))
    weights = initial(params)
    state = optimizer.init(weights)

    @jax.jit
    def step(weights: Weights, state: Any, key: Any, batch: Any, wanted: Any) -> Any:
        def loss(weights: Weights) -> Any:
            logits = network(weights, _moved(batch, key, params.shift))
            return optax.softmax_cross_entropy_with_integer_labels(logits, wanted).mean()

        value, slope = jax.value_and_grad(loss)(weights)
        change, state = optimizer.update(slope, state, weights)
        return optax.apply_updates(weights, change), state, value

    for epoch in range(params.epochs):
        losses = []
        for number, chosen in enumerate(np.array_split(order.permutation(len(images)), steps)):
            chosen = chosen[: len(images) // steps]  # noqa: PLW2901 - equal sizes, so JAX compiles once
            key = jax.random.fold_in(jax.random.key(params.seed), epoch * steps + number)
            weights, state, value = step(weights, state, key, images[chosen], digits[chosen])
            losses.append(value)
        print(f"epoch {epoch + 1} of {params.epochs}: loss {np.mean(losses):.4f}", flush=True)
    return weights


def initial(params: Params) -> Weights:
    """Return random weights, normal with He's scale, and biases of 0."""
    random = np.random.default_rng(params.seed)
    first, second = params.channels
    shapes = {
        "conv1": (first, 1, KERNEL, KERNEL),
        "conv2": (second, first, KERNEL, KERNEL),
        "dense1": (params.hidden, second * (SIDE // STRIDE**2) ** 2),
        "dense2": (CLASSES, params.hidden),
    }
    weights: Weights = {}
    for name, shape in shapes.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        weights[f"{name}.weight"] = random.normal(0, scale, shape).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return weights


def network(weights: Weights, images: Any) -> Any:
    """Return logits (n, 10) of images (n, 1, 28, 28) with brightness up to 255, as `save` defines it too."""
    import jax.numpy as jnp
    from jax import lax, nn

    x = images.astype(jnp.float32) / 255
    for name in ("conv1", "conv2"):
        x = lax.conv_general_dilated(x, weights[f"{name}.weight"], (STRIDE, STRIDE), [(PAD, PAD)] * 2)
        x = nn.relu(x + weights[f"{name}.bias"][:, None, None])
    x = x.reshape(len(x), -1)
    x = nn.relu(x @ weights["dense1.weight"].T + weights["dense1.bias"])
    return x @ weights["dense2.weight"].T + weights["dense2.bias"]


def _moved(images: Any, key: Any, shift: int) -> Any:
    """Return each image moved by a random distance of up to `shift` pixels in both directions."""
    import jax
    import jax.numpy as jnp

    wide = jnp.pad(images, ((0, 0), (0, 0), (shift, shift), (shift, shift)))
    places = jax.random.randint(key, (len(images), 2), 0, 2 * shift + 1)
    cut = partial(jax.lax.dynamic_slice, slice_sizes=(1, SIDE, SIDE))
    return jax.vmap(lambda image, place: cut(image, (0, *place)))(wide, places)


def save(weights: Weights, folder: Path) -> None:
    """Write the network to `folder`/model.onnx, which converts the images' bytes to probabilities."""
    from onnx import TensorProto, helper, numpy_helper

    halved = {"pads": [PAD] * 4, "strides": [STRIDE] * 2}
    steps: list[tuple[str, list[str], dict[str, Any]]] = [
        ("Cast", [], {"to": TensorProto.FLOAT}),
        ("Div", ["white"], {}),
        ("Conv", ["conv1.weight", "conv1.bias"], halved),
        ("Relu", [], {}),
        ("Conv", ["conv2.weight", "conv2.bias"], halved),
        ("Relu", [], {}),
        ("Flatten", [], {}),
        ("Gemm", ["dense1.weight", "dense1.bias"], {"transB": 1}),
        ("Relu", [], {}),
        ("Gemm", ["dense2.weight", "dense2.bias"], {"transB": 1}),
        ("Softmax", [], {"axis": 1}),
    ]
    values = ["pixels", *(f"{op.lower()}{place}" for place, (op, _, _) in enumerate(steps[:-1])), "scores"]
    nodes = [
        helper.make_node(op, [values[place], *more], [values[place + 1]], **how)
        for place, (op, more, how) in enumerate(steps)
    ]
    constants = {**weights, "white": np.float32(255)}
    made = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
