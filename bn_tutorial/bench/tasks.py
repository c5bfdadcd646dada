"""The workbook's tasks: what a solution is given, and what is right, found in another way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial import scratch
from bn_tutorial.bench import mistakes
from bn_tutorial.bench.exam import examine
from bn_tutorial.bench.marking import Case, Task, mark
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.feeding import fed

Array = NDArray[Any]

#: How far a nudge moves a value.
STEP = 1e-5
#: So far apart, beside the largest value, may be what Keras computes in 32 bits.
SINGLE = 1e-4
BATCH, IMAGES = "a dense layer's batch", "a batch of images"


def check(function: Callable[..., Any]) -> None:
    """Mark the solution of a task of the workbook, and print that it is right.

    What is right is found in another way than by a formula for it: by Keras's layers, by nudging the
    input, or by a property.

    Parameters
    ----------
    function : callable
        The solution; its name tells which task it solves.

    Raises
    ------
    NotYet
        If it is still open or wrong; the message says which mistake it looks like.
    ValueError
        If there is no task of that name.
    """
    name = getattr(function, "__name__", repr(function))
    if name not in TASKS:
        raise ValueError(f"the workbook has no task {name!r}: its tasks are {', '.join(TASKS)}.")
    print(mark(name, function, TASKS[name]))


def _drawn(*shape: int) -> tuple[Array, Array, Array, Array]:
    """Return a batch, γ, β and a gradient, of features that differ in mean and spread."""
    rng = np.random.default_rng(0)
    features = shape[-1]
    mean, spread, gamma, beta = rng.uniform(0.5, 2, (4, features))
    x = mean + spread * rng.normal(size=shape)
    return x, gamma, beta - 3, rng.normal(size=shape)


def _layer(shape: tuple[int, ...], weights: list[Array], epsilon: float, momentum: float) -> Any:
    """Return Keras's layer in 64 bits, with γ, β and moving statistics."""
    made = keras.layers.BatchNormalization(epsilon=epsilon, momentum=momentum, dtype="float64")
    made.build(shape)
    made.set_weights(weights)
    return made


def _normalised(x: Array, gamma: Array, beta: Array, epsilon: float) -> Case:
    layer = _layer(x.shape, [gamma, beta, gamma, gamma], epsilon, momentum=0.0)
    y = np.asarray(layer(x, training=True))
    statistics = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    return Case((x, gamma, beta, epsilon), (y, *statistics))


def _forward() -> dict[str, Case]:
    dense, images = _drawn(7, 4)[:3], _drawn(5, 3, 2, 4)[:3]
    return {BATCH: _normalised(*dense, 0.1), IMAGES: _normalised(*images, 1e-3)}


def _update() -> dict[str, Case]:
    cases, (mean, new, gamma, _) = {}, _drawn(4)
    for momentum in (0.99, 0.8):
        layer = _layer((2, 4), [gamma, gamma, mean, gamma], 1e-3, momentum)
        layer(np.stack([new, new]), training=True)  # two alike, so that this is their mean
        case = Case((mean, new, momentum), (np.asarray(layer.moving_mean),))
        cases[f"a momentum of {momentum}"] = case
    return cases


def _infer() -> dict[str, Case]:
    cases = {}
    for name, shape, epsilon in ((BATCH, (7, 4), 0.1), (IMAGES, (5, 3, 2, 4), 1e-3)):
        x, gamma, beta, _ = _drawn(*shape)
        mean, variance = beta + 2, 1 + gamma
        layer = _layer(shape, [gamma, beta, mean, variance], epsilon, momentum=0.99)
        truth = np.asarray(layer(x, training=False))
        cases[name] = Case((x, gamma, beta, mean, variance, epsilon), (truth,))
    return cases


def nudged(loss: Callable[[Array], float], at: Array) -> Array:
    """Return how fast a loss changes where each number is moved a little both ways.

    Parameters
    ----------
    loss : callable
        Takes an array and returns a number.
    at : ndarray
        Where.

    Returns
    -------
    ndarray, shape of `at`
        The central differences.
    """
    slopes = np.empty_like(at)
    for place in np.ndindex(at.shape):
        move = np.zeros_like(at)
        move[place] = STEP
        slopes[place] = (loss(at + move) - loss(at - move)) / (2 * STEP)
    return slopes


def _nudged(x: Array, gamma: Array, beta: Array, dy: Array, epsilon: float) -> tuple[Array, ...]:
    def loss(x: Array, gamma: Array, beta: Array) -> float:
        return float(np.sum(dy * scratch.forward(x, gamma, beta, epsilon=epsilon)[0]))

    return (
        nudged(lambda x: loss(x, gamma, beta), x),
        nudged(lambda gamma: loss(x, gamma, beta), gamma),
        nudged(lambda beta: loss(x, gamma, beta), beta),
    )


def _backward() -> dict[str, Case]:
    x, gamma, beta, dy = _drawn(7, 4)
    return {
        f"an ε of {epsilon:g}": Case((dy, x, gamma, epsilon), _nudged(x, gamma, beta, dy, epsilon))
        for epsilon in (1e-3, 1.0)
    }


def _one_line() -> dict[str, Case]:
    cases = {}
    for name, case in _backward().items():
        dy, x, gamma, epsilon = case.arguments
        s = 1 / np.sqrt(x.var(0) + epsilon)
        cases[name] = Case((dy, (x - x.mean(0)) * s, gamma, s), case.truth[:1])
    return cases


def _by_example(x: Array, gamma: Array, beta: Array, dy: Array, epsilon: float) -> tuple[Any, ...]:
    """Return what Keras's layer normalisation answers, and its gradients."""
    layer = keras.layers.LayerNormalization(epsilon=epsilon, dtype="float64")
    layer.build(x.shape)
    layer.set_weights([gamma, beta])
    with tf.GradientTape() as tape:
        watched = tf.constant(x)
        tape.watch(watched)
        y = layer(watched)
    sources = [watched, layer.gamma.value, layer.beta.value]
    gradients = tape.gradient(y, sources, output_gradients=tf.constant(dy))
    return np.asarray(y), tuple(map(np.asarray, gradients))


def _layer_forward() -> dict[str, Case]:
    x, gamma, beta, dy = _drawn(7, 4)
    return {
        f"an ε of {epsilon:g}": Case(
            (x, gamma, beta, epsilon), _by_example(x, gamma, beta, dy, epsilon)[:1]
        )
        for epsilon in (1e-3, 1.0)
    }


def _layer_backward() -> dict[str, Case]:
    cases, (x, gamma, beta, dy) = {}, _drawn(7, 4)
    for epsilon in (1e-3, 1.0):
        s = 1 / np.sqrt(x.var(1, keepdims=True) + epsilon)
        x_hat = (x - x.mean(1, keepdims=True)) * s
        truth = _by_example(x, gamma, beta, dy, epsilon)[1]
        cases[f"an ε of {epsilon:g}"] = Case((dy, x_hat, gamma, s), truth)
    return cases


def _distance() -> dict[str, Case]:
    cases = {}
    for name, shape, epsilon in ((BATCH, (40, 4), 0.1), (IMAGES, (30, 3, 2, 4), 1e-3)):
        x, gamma, beta, _ = (one.astype("float32") for one in _drawn(*shape))
        layer = keras.layers.BatchNormalization(epsilon=epsilon)
        model = keras.Sequential([keras.Input(shape[1:]), layer])
        layer.set_weights([gamma, beta, beta + 3, gamma])
        seen = examine(model, fed(model, x)).layers[0]
        cases[name] = Case((layer, x), (seen.distance,))
    return cases


def _network(momentum: float) -> Any:
    """Return a network with two normalisers, whose weights and statistics are the same each time."""
    layers, rng = keras.layers, np.random.default_rng(0)
    norms = [layers.BatchNormalization(momentum=momentum) for _ in range(2)]
    convolutions = [layers.Conv2D(width, 2, use_bias=False) for width in (4, 3)]
    model = keras.Sequential([keras.Input((5, 5, 2))])
    for convolution, norm in zip(convolutions, norms, strict=True):
        for layer in (convolution, norm, layers.ReLU()):
            model.add(layer)
    model.add(layers.GlobalAveragePooling2D())
    model.set_weights([rng.uniform(0.5, 1.5, one.shape) for one in model.get_weights()])
    return model


def _recalibrate() -> dict[str, Case]:
    images = (1 + np.random.default_rng(1).normal(size=(30, 5, 5, 2))).astype("float32")
    other = _network(momentum=0.0)
    other(images, training=True)  # forgets the past: what it keeps is these images' own
    return {"two normalisers": Case((_network(momentum=0.9), images), mistakes.stored(other))}


def _recalibrated(function: Callable[..., Any], model: Any, images: Array) -> tuple[Array, ...]:
    with mistakes.borrowed(model):
        function(model, images)
        return mistakes.stored(model)


def _affine(layers: Callable[[Any], Any], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the kernel and the bias of whatever answers to inputs of this shape with a sum of them."""
    size = int(np.prod(shape))
    bias = np.ravel(layers(np.zeros((1, *shape))))
    answers = np.asarray(layers(np.eye(size).reshape(size, *shape))).reshape(size, -1)
    return (answers - bias).reshape(*shape, -1), bias


def _fold() -> dict[str, Case]:
    cases = {}
    for name, shape, epsilon in (("a dense layer", (5,), 0.1), ("a convolution", (3, 3, 2), 1e-3)):
        kernel, gamma, bias, _ = _drawn(*shape, 4)
        beta, mean, variance = bias + 1, 1 + gamma, 2 + gamma
        first = keras.layers.Dense(4) if len(shape) == 1 else keras.layers.Conv2D(4, shape[:2])
        norm = keras.layers.BatchNormalization(epsilon=epsilon)
        with_norm = keras.Sequential([keras.Input(shape), first, norm])
        with_norm.set_weights([kernel, bias, gamma, beta, mean, variance])
        arguments = kernel, bias, gamma, beta, mean, variance, epsilon
        cases[name] = Case(arguments, _affine(with_norm, shape))
    return cases


_KERAS, _NUDGES = "what Keras's layer gives", "what nudges of the forward pass give"
_GRADIENTS = ("gradient of x", "gradient of γ", "gradient of β")
_STORED = tuple(
    f"{statistic} of the {which} layer"
    for which in ("first", "second")
    for statistic in ("moving mean", "moving variance")
)
#: All tasks, in the order of the workbook.
TASKS: Mapping[str, Task] = {
    "forward": Task(
        ("output", "mean", "variance"), _forward, _KERAS, mistakes.forward, mistakes.FORWARD
    ),
    "update": Task(("average",), _update, _KERAS, mistakes.update, mistakes.UPDATE),
    "infer": Task(("output",), _infer, _KERAS, mistakes.infer, mistakes.INFER),
    "backward": Task(
        _GRADIENTS, _backward, _NUDGES, mistakes.backward, mistakes.PATHS | mistakes.PARAMETERS
    ),
    "one_line": Task(_GRADIENTS[:1], _one_line, _NUDGES, mistakes.one_line, mistakes.PATHS),
    "layer_forward": Task(
        ("output",), _layer_forward, _KERAS, mistakes.layer_forward, mistakes.LAYER_FORWARD
    ),
    "layer_backward": Task(
        _GRADIENTS, _layer_backward, _KERAS, mistakes.layer_backward, mistakes.LAYER_BACKWARD
    ),
    "distance": Task(
        ("distance",), _distance, "what the check-up measures", mistakes.distance, mistakes.DISTANCE,
        rounding=SINGLE,
    ),
    "recalibrate": Task(
        (*_STORED, "set of other weights"), _recalibrate, "what these images give as a single batch",
        mistakes.recalibrate, mistakes.RECALIBRATE, _recalibrated, SINGLE,
    ),
    "fold": Task(
        ("kernel", "bias"), _fold, "what both layers answer", mistakes.fold, mistakes.FOLD,
        rounding=SINGLE,
    ),
}  # fmt: skip
