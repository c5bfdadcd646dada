"""Make a trained model ready for use: no normaliser is left to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.graph import Graph, Inexact, clone

Affine = tuple[NDArray[Any], NDArray[Any]]  # a kernel and a bias

# A subclass may compute something else, so these types are meant exactly.
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_AFFINE = (keras.layers.Dense, *_CONVOLUTIONS)


def fold(model: keras.Model) -> keras.Model:
    """Return a model without batch normalisation that predicts the same.

    In inference mode a batch normalisation layer is one multiplication and one addition per
    feature. They go into the kernel and the bias of the dense or convolutional layer before
    it, or else of the one after it. Dropout in between does not matter.

    Parameters
    ----------
    model : keras.Model
        A sequential or functional model, trained, with the features on the last axis.

    Returns
    -------
    keras.Model
        A new, functional model. In inference mode its outputs are those of `model`, up to the
        rounding of its dtype; it is not meant to be trained.

    Raises
    ------
    ValueError
        If a layer cannot be folded exactly: for an activation in between, a neighbour that
        serves others, too, the zeros that a convolution pads with, an inner model, features on
        another axis, or a layer that the graph calls with ``training=True``. Some neighbours are
        refused, too, because they are not dealt with here: depthwise, transposed and quantised
        ones, and subclasses; and models with a vocabulary, which a copy would lose. The message
        names the layer and the reasons.

    References
    ----------
    Jacob et al. (2018), Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, section 3.2, for the layer before.
    """
    graph, folded = Graph(model), dict[str, Affine]()
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "get_vocabulary"):
            raise ValueError(
                f"the layer {layer.name!r} has a vocabulary, which a copy would lose: fold the model "
                "that follows it."
            )
    for norm in graph.norms:
        name, affine = _absorb(norm, graph, folded)
        folded[name] = affine
    dropped = {norm.name for norm in graph.norms}

    def without(operation: Any, *args: Any, **kwargs: Any) -> Any:
        if operation.name in dropped:
            return args[0] if args else kwargs["inputs"]
        return operation(*args, **kwargs)

    new = clone(model, without, biased=folded)
    for layer in model.layers:
        weights = folded.get(layer.name) or layer.get_weights()
        if weights and layer.name not in dropped:
            new.get_layer(layer.name).set_weights(weights)
    for copy in new._flatten_layers(include_self=False):
        if hasattr(copy, "finalize_state"):  # of Normalization, derived from its weights
            copy.finalize_state()
    return new


def _absorb(norm: Any, graph: Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    """Return which layer takes the normaliser in, and its new kernel and bias."""
    last = norm.input_spec.ndim - 1
    if norm.axis not in (-1, last):
        raise ValueError(
            f"the layer {norm.name!r} cannot be folded: its features are on axis {norm.axis}, "
            "not on the last."
        )
    reasons = []
    for into in (_into_previous, _into_next):
        try:
            return into(norm, graph, folded)
        except Inexact as reason:
            reasons.append(str(reason))
    raise ValueError(
        f"the layer {norm.name!r} cannot be folded. Into the layer before: {reasons[0]}. "
        f"Into the layer after: {reasons[1]}."
    )


def _into_previous(norm: Any, graph: Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = _neighbour(graph, graph.before(norm), norm)
    if layer.activation is not keras.activations.linear:
        kind = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        raise Inexact(f"the activation of {layer.name!r}, {kind}, is in between")
    affine = folded.get(layer.name) or _affine(layer)
    gamma, beta, mean, variance = _statistics(norm)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return layer.name, (affine[0] * factor, (affine[1] - mean) * factor + beta)


def _into_next(norm: Any, graph: Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = _neighbour(graph, graph.after(norm), norm)
    if type(layer) in _CONVOLUTIONS:
        if layer.padding != "valid" and set(layer.kernel_size) != {1}:
            raise Inexact(f"{layer.name!r} pads with zeros, which the normaliser does not shift")
        if layer.groups != 1:
            raise Inexact(f"{layer.name!r} convolves in groups")
    kernel, bias = folded.get(layer.name) or _affine(layer)
    gamma, beta, mean, variance = _statistics(norm)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    shift = np.tensordot(beta - mean * factor, kernel, (0, -2))  # shape (..., out)
    return layer.name, (
        kernel * factor[:, None],
        bias + shift.sum(tuple(range(shift.ndim - 1))),
    )


def _neighbour(graph: Graph, name: str, norm: Any) -> Any:
    """Return the layer of that name, if a normaliser can be folded into it."""
    layer: Any = graph.layers.get(name)
    if type(layer) not in _AFFINE:
        raise Inexact(f"{name!r} is neither a dense nor an ordinary convolutional layer")
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise Inexact(f"{name!r} has its channels first")
    if layer.quantization_mode or layer.lora_enabled:
        raise Inexact(f"{name!r} is quantised or has LoRA weights")
    if layer.compute_dtype != norm.compute_dtype:
        raise Inexact(f"{name!r} computes in {layer.compute_dtype}")
    return layer


def _affine(layer: Any) -> Affine:
    kernel = np.asarray(layer.kernel)
    bias = np.asarray(layer.bias) if layer.use_bias else np.zeros(kernel.shape[-1], kernel.dtype)
    return kernel, bias


def _statistics(norm: Any) -> list[NDArray[Any]]:
    """Return gamma, beta, mean and variance."""
    mean, variance = (np.asarray(one) for one in (norm.moving_mean, norm.moving_variance))
    gamma = np.asarray(norm.gamma) if norm.scale else np.ones_like(mean)
    beta = np.asarray(norm.beta) if norm.center else np.zeros_like(mean)
    return [gamma, beta, mean, variance]
