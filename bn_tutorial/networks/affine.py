"""How an affine map of features, as a normaliser is in inference mode, enters a layer's weights."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.backend import keras

Array = NDArray[Any]
layers = keras.layers

# A subclass may compute something else, so these types are meant exactly.
CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
AFFINE = (layers.Dense, *CONVOLUTIONS, *TRANSPOSED, *DEPTHWISE, *SEPARABLE)

#: Layers that an affine map passes in inference mode, whatever it is: each of their outputs is one
#: of their inputs, or a mean of some of the same feature.
PASSED = (
    *(layers.Identity, layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D),
    *(layers.SpatialDropout3D, layers.AlphaDropout, layers.GaussianNoise, layers.GaussianDropout),
    *(layers.ActivityRegularization, layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
    *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
)


class Inexact(Exception):
    """A map does not go into a layer; the message says why."""


class Map(NamedTuple):
    """What is done to each feature: times `factor`, plus `shift`; both of shape (features,)."""

    factor: Array
    shift: Array


def of(norm: Any) -> Map:
    """Return what a batch normalisation layer does in inference mode."""
    mean, variance = (np.asarray(one, float) for one in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma, float) if norm.scale else np.ones_like(mean)
    beta = np.asarray(norm.beta, float) if norm.center else np.zeros_like(mean)
    factor = gamma / np.sqrt(variance + norm.epsilon) if getattr(norm, "variance", True) else gamma
    return Map(factor, beta - mean * factor if getattr(norm, "mean", True) else beta)


def features_on(layer: Any, rank: int) -> int:
    """Return on which axis a layer's features are."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 1 if first else rank - 1


def weights_of(layer: Any) -> list[Array]:
    """Return a layer's weights with a bias, if need be of zeros."""
    found = [np.asarray(one, float) for one in layer.weights]
    if layer.use_bias:
        return found
    return [*found, np.zeros(_outputs(layer, found[-1]))]


def _outputs(layer: Any, kernel: Array) -> int:
    """Return how many features a layer gives."""
    if type(layer) in DEPTHWISE:
        return int(kernel.shape[-2] * kernel.shape[-1])
    return int(kernel.shape[-2 if type(layer) in TRANSPOSED else -1])


def applied_after(layer: Any, weights: list[Array], change: Map) -> list[Array]:
    """Return the weights of a layer that does what a map does to its outputs, too.

    Parameters
    ----------
    layer : keras.layers.Layer
        One of `AFFINE`, without an activation.
    weights : list of numpy.ndarray
        Its weights, with a bias.
    change : Map
        What follows.

    References
    ----------
    Jacob et al. (2018), Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, section 3.2.
    """
    *rest, kernel, bias = weights
    factor = change.factor
    if type(layer) in DEPTHWISE:
        kernel = kernel * factor.reshape(kernel.shape[-2:])
    elif type(layer) in TRANSPOSED:
        kernel = kernel * factor[:, None]
    else:
        kernel = kernel * factor
    return [*rest, kernel, bias * factor + change.shift]


def applied_before(layer: Any, weights: list[Array], change: Map) -> list[Array]:
    """Return the weights of a layer that does what a map does to its inputs, too.

    Parameters
    ----------
    layer : keras.layers.Layer
        One of `AFFINE`.
    weights : list of numpy.ndarray
        Its weights, with a bias.
    change : Map
        What comes before.

    Raises
    ------
    Inexact
        If the layer pads its inputs with zeros, which the map does not shift.
    """
    kind, (*_, bias) = type(layer), weights
    spatial = tuple(range(weights[0].ndim - 2))
    shifts = bool(np.any(change.shift))
    padded = kind is not layers.Dense and layer.padding != "valid" and set(layer.kernel_size) != {1}
    if shifts and (padded or kind in TRANSPOSED):
        raise Inexact(f"{layer.name!r} pads with zeros, which the normaliser does not shift")
    kernel = weights[0]
    if kind in TRANSPOSED:
        return [kernel * change.factor, bias]
    if kind in DEPTHWISE or kind in SEPARABLE:
        moved = (kernel * change.shift[:, None]).sum(spatial).ravel()
        kernel = kernel * change.factor[:, None]
        if kind in DEPTHWISE:
            return [kernel, bias + moved]
        pointwise = weights[1]
        return [kernel, pointwise, bias + moved @ pointwise.reshape(-1, pointwise.shape[-1])]
    groups = getattr(layer, "groups", 1)
    # the features that each output sees, shape (inputs of a group, outputs)
    each = np.repeat(np.arange(groups), kernel.shape[-1] // groups)
    factor, shift = (one.reshape(groups, -1).T[:, each] for one in change)
    return [kernel * factor, bias + (kernel * shift).sum((*spatial, -2))]


def passed(layer: Any, change: Map, shape: tuple[int | None, ...], axis: int) -> Map | None:
    """Return the map that does behind a layer what a map did before it, if there is one.

    Parameters
    ----------
    layer : keras.layers.Layer
        What it is to pass.
    change : Map
        A map of what enters the layer.
    shape : tuple of int or None
        The shape of that.
    axis : int
        On which axis the features are.

    Returns
    -------
    Map or None
        None if it does not pass.
    """
    if type(layer) in PASSED:
        pools = getattr(layer, "data_format", None)
        return change if pools is None or features_on(layer, len(shape)) == axis else None
    if type(layer) is layers.Activation and layer.activation is keras.activations.linear:
        return change
    last = axis == len(shape) - 1 and getattr(layer, "data_format", "") == "channels_last"
    if type(layer) is layers.Flatten and last and None not in shape[1:]:
        times = math.prod(one or 1 for one in shape[1:-1])
        return Map(np.tile(change.factor, times), np.tile(change.shift, times))
    return None
