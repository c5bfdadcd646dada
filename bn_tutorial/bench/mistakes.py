"""Solutions of the workbook's tasks with the usual mistakes in them: each is a turn that one can take."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.passes import normalisers

Array = NDArray[Any]
Wrong = Collection[str]

#: What is said of each: it follows "what comes out if".
SCALE = {
    "unbiased": "the variance is divided by m − 1 (that of a batch is the biased one, divided by m)",
    "outside": "ε is added to the standard deviation (it belongs under the root, beside the variance)",
    "no epsilon": "ε is left out (it belongs under the root, beside the variance)",
    "no root": "one divides by the variance (divide by the standard deviation, its root)",
}
SHIFT = {
    "swapped": "γ and β change places (γ multiplies, β is added)",
    "plain": "γ and β are left out",
}
AXES = {
    "examples": "each example is normalised by itself (a feature's mean is over the examples)",
    "whole": "one mean and one variance serve all features (each feature has its own)",
    "pixels": "each pixel has a mean of its own (a channel's is over the images and all their pixels)",
}
FORWARD = AXES | SCALE | SHIFT
UPDATE = {
    "swapped": "momentum is the weight of the new batch, as PyTorch has it (here, as in Keras, it is the "
    "weight of the past)",
    "sum": "the batch is added with its full weight (both weights together are 1)",
    "batch": "the past is forgotten",
    "half": "past and batch count alike, whatever the momentum",
}
INFER = {
    "batch": "the batch is normalised by its own statistics (in use, the stored ones take their place)",
    **{name: said for name, said in SCALE.items() if name != "unbiased"},
    **SHIFT,
}
PATHS = {
    "mean": "the way through the mean is missing (every input moves the mean)",
    "variance": "the way through the variance is missing (every input moves the variance)",
    "double": "the way through the variance counts twice (look at the exponent of a root's derivative)",
    "sign": "the way through the variance has the wrong sign",
    "sums": "sums stand in place of means (each input has a share of one m-th in a mean)",
    "no gamma": "γ is left out of the gradient of x",
    "no scale": "the gradient is not divided by the standard deviation",
}
PARAMETERS = {
    "averaged": "the gradients of γ and β are means (they are sums: each value of a feature uses them)",
    "raw": "x stands where its normalised value should (it is this that γ multiplies)",
    "exchanged": "the gradients of γ and β change places",
}
LAYER_FORWARD = {
    "batch": "the mean is over the examples (that is batch normalisation: here each example has its own)",
    **SCALE,
    **SHIFT,
}
LAYER_BACKWARD = {
    "gamma last": "γ is multiplied in at the end, as for batch normalisation (here it differs along the "
    "axis of the mean, and must be in it)",
    "batch": "means are over the examples, as for batch normalisation (here they are over the features)",
    **PATHS,
    "features": "the gradients of γ and β are summed over the features (each feature has its own)",
    "averaged": PARAMETERS["averaged"],
    "exchanged": PARAMETERS["exchanged"],
}
DISTANCE = {
    "signed": "the sign is kept (a distance has none)",
    "bare": "the difference is not divided by the standard deviation",
    "moving": "one divides by the root of the moving variance (take that of these values)",
    **AXES,
    **SCALE,
}
RECALIBRATE = {
    "untouched": "nothing is changed (assign to moving_mean and moving_variance)",
    "step": "the statistics take one step of the moving average (put the new ones in their place)",
    "at once": "the second layer is measured while the first still has its old statistics (take the "
    "layers one after another)",
    "outputs": "a layer's outputs are measured (its statistics are those of its inputs)",
    "deviation": "the standard deviation is stored (a moving variance is a variance)",
    "unbiased": SCALE["unbiased"],
}
FOLD = {
    **{name: said for name, said in SCALE.items() if name != "unbiased"},
    "bias": "the old bias is not scaled (it passes through the normaliser as well)",
    "mean": "the mean is subtracted as it is (it is scaled, too)",
    "no mean": "the mean is left out (inference mode subtracts it)",
    "added": "the mean is added (inference mode subtracts it)",
    "no beta": "β is left out",
    "no gamma": "γ is left out",
}


def _chosen(factors: Mapping[str, int], wrong: Wrong) -> int:
    """Return the factor of the first of some mistakes that is made, or 1."""
    return next((factors[one] for one in factors if one in wrong), 1)


def scale(variance: Any, epsilon: float, wrong: Wrong) -> Any:
    """Return what one divides by."""
    epsilon = 0.0 if "no epsilon" in wrong else epsilon
    if "outside" in wrong:
        return np.sqrt(variance) + epsilon
    return variance + epsilon if "no root" in wrong else np.sqrt(variance + epsilon)


def moments(x: Array, axes: Any, wrong: Wrong) -> tuple[Array, Array]:
    """Return mean and variance, of a shape to broadcast with `x`."""
    if "examples" in wrong:
        axes = -1
    elif "whole" in wrong:
        axes = None
    elif "pixels" in wrong or "batch" in wrong:
        axes = 0
    variance = x.var(axes, keepdims=True, ddof=int("unbiased" in wrong))
    return x.mean(axes, keepdims=True), variance


def shifted(x_hat: Array, gamma: Array, beta: Array, wrong: Wrong) -> Array:
    """Return the output."""
    if "plain" in wrong:
        return x_hat
    if "swapped" in wrong:
        gamma, beta = beta, gamma
    return np.asarray(gamma * x_hat + beta)


def forward(
    x: Array, gamma: Array, beta: Array, epsilon: float, wrong: Wrong = ()
) -> tuple[Array, ...]:
    """Normalise a batch."""
    mean, variance = moments(x, tuple(range(x.ndim - 1)), wrong)
    x_hat = (x - mean) / scale(variance, epsilon, wrong)
    return shifted(x_hat, gamma, beta, wrong), np.squeeze(mean), np.squeeze(variance)


def update(moving: Array, batch: Array, momentum: float, wrong: Wrong = ()) -> tuple[Array]:
    """Take a step of a moving average."""
    past, new = momentum, 1 - momentum
    if "swapped" in wrong:
        past, new = new, past
    elif "sum" in wrong:
        new = 1
    elif "batch" in wrong:
        past, new = 0, 1
    elif "half" in wrong:
        past = new = 0.5
    return (past * moving + new * batch,)


def infer(
    x: Array, gamma: Array, beta: Array, mean: Any, variance: Any, epsilon: float, wrong: Wrong = ()
) -> tuple[Array]:
    """Normalise by stored statistics."""
    if "batch" in wrong:
        mean, variance = moments(x, tuple(range(x.ndim - 1)), ())
    return (shifted((x - mean) / scale(variance, epsilon, wrong), gamma, beta, wrong),)


def back(dy: Array, x_hat: Array, gamma: Array, s: Array, axis: int, wrong: Wrong) -> Array:
    """Return the gradient of x, where means are over this axis."""
    axis = 0 if "batch" in wrong else axis
    last = "gamma last" in wrong
    g = dy if last or "no gamma" in wrong else gamma * dy
    many = x_hat.shape[axis] if "sums" in wrong else 1
    through_mean = many * g.mean(axis, keepdims=True)
    through_variance = many * x_hat * (g * x_hat).mean(axis, keepdims=True)
    through_mean = through_mean * _chosen({"mean": 0}, wrong)
    through_variance *= _chosen({"variance": 0, "double": 2, "sign": -1}, wrong)
    dx = (g - through_mean - through_variance) * (1 if "no scale" in wrong else s)
    return np.asarray(gamma * dx if last else dx)


def one_line(dy: Array, x_hat: Array, gamma: Array, s: Array, wrong: Wrong = ()) -> tuple[Array]:
    """Carry a gradient through a normalised batch."""
    return (back(dy, x_hat, gamma, s, 0, wrong),)


def backward(
    dy: Array, x: Array, gamma: Array, epsilon: float, wrong: Wrong = ()
) -> tuple[Array, ...]:
    """Carry a gradient through batch normalisation."""
    mean, variance = moments(x, 0, ())
    s = 1 / scale(variance, epsilon, wrong)
    x_hat = (x - mean) * s
    over = len(x) if "averaged" in wrong else 1
    dgamma, dbeta = (dy * (x if "raw" in wrong else x_hat)).sum(0) / over, dy.sum(0) / over
    if "exchanged" in wrong:
        dgamma, dbeta = dbeta, dgamma
    return back(dy, x_hat, gamma, s, 0, wrong), dgamma, dbeta


def layer_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float, wrong: Wrong = ()
) -> tuple[Array]:
    """Normalise each example."""
    mean, variance = moments(x, -1, wrong)
    return (shifted((x - mean) / scale(variance, epsilon, wrong), gamma, beta, wrong),)


def layer_backward(
    dy: Array, x_hat: Array, gamma: Array, s: Array, wrong: Wrong = ()
) -> tuple[Array, ...]:
    """Carry a gradient through layer normalisation."""
    axis = -1 if "features" in wrong else 0
    over = dy.shape[axis] if "averaged" in wrong else 1
    dgamma, dbeta = (dy * x_hat).sum(axis) / over, dy.sum(axis) / over
    if "exchanged" in wrong:
        dgamma, dbeta = dbeta, dgamma
    return back(dy, x_hat, gamma, s, -1, wrong), dgamma, dbeta


def distance(layer: Any, x: Array, wrong: Wrong = ()) -> tuple[Array]:
    """Return how far moving means are from those of some values."""
    mean, variance = moments(x, tuple(range(x.ndim - 1)), wrong)
    if "moving" in wrong:
        variance = np.asarray(layer.moving_variance)
    apart = np.asarray(layer.moving_mean) - mean
    apart = apart if "signed" in wrong else np.abs(apart)
    apart = apart if "bare" in wrong else apart / scale(variance, layer.epsilon, wrong)
    return (np.squeeze(apart),)


@contextlib.contextmanager
def borrowed(model: Any) -> Iterator[None]:
    """Give a model its weights and statistics back at the end of a ``with`` statement."""
    kept = [one.copy() for one in model.get_weights()]
    try:
        yield
    finally:
        model.set_weights(kept)


def stored(model: Any) -> tuple[Array, ...]:
    """Return the statistics of two normalisers, and all other weights of a model in one array."""
    found = [np.copy(one) for norm in normalisers(model) for one in norm.get_weights()[2:]]
    others = [one.numpy().ravel() for one in model.trainable_variables]  # concatenated, so copied
    return *found, np.concatenate(others)


def recalibrate(model: Any, images: Array, wrong: Wrong = ()) -> tuple[Array, ...]:
    """Return what `stored` does of a model whose two normalisers have got the statistics of images."""
    with borrowed(model):
        if "step" in wrong:
            model(images, training=True)
        elif "untouched" not in wrong:
            new = []
            for norm in normalisers(model):
                measured = norm.output if "outputs" in wrong else norm.input
                x = np.asarray(keras.Model(model.inputs[0], measured)(images), float)
                mean, variance = (one.ravel() for one in moments(x, (0, 1, 2), wrong))
                new.append((mean, np.sqrt(variance) if "deviation" in wrong else variance))
                if "at once" not in wrong:
                    _store([norm], new[-1:])
            _store(normalisers(model), new)
        return stored(model)


def _store(norms: Any, statistics: list[tuple[Array, Array]]) -> None:
    for norm, (mean, variance) in zip(norms, statistics, strict=True):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


def fold(
    kernel: Array, bias: Array, gamma: Array, beta: Array, mean: Array, variance: Array,
    epsilon: float, wrong: Wrong = (),
) -> tuple[Array, ...]:  # fmt: skip
    """Put a normaliser into the layer before it."""
    factor = (1 if "no gamma" in wrong else gamma) / scale(variance, epsilon, wrong)
    mean = _chosen({"no mean": 0, "added": -1}, wrong) * mean
    less = mean if "mean" in wrong else factor * mean
    more = np.zeros_like(beta) if "no beta" in wrong else beta
    return kernel * factor, (bias if "bias" in wrong else factor * bias) + more - less
