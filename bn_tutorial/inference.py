"""Make a trained model ready for use: fresh statistics, and no normaliser left to compute."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bn_tutorial import from_scratch
from bn_tutorial.backend import keras, tf
from bn_tutorial.probes import batch_norms, population_statistics

Affine = tuple[NDArray[Any], NDArray[Any]]  # a kernel and a bias

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


def recalibrate(model: keras.Model, images: ArrayLike, batch_size: int | None = None) -> None:
    """Replace a model's moving statistics by the statistics of the population, in place.

    The weights stay as they are. It is called *precise batch norm*, too.

    Parameters
    ----------
    model : keras.Model
        A model whose batch normalisation layers lie on its top level.
    images : array_like, shape (n, ...)
        Training inputs, scaled as the model gets them: 1,000 to 10,000 are enough.
    batch_size : int or None
        Images in a batch; None means about 1,000.

    Raises
    ------
    ValueError
        If there are no images, or a batch normalisation layer is frozen, has a momentum of 1
        or lies in an inner model. Nothing has changed then.

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    inputs = tf.convert_to_tensor(images, keras.backend.floatx())
    if len(inputs) == 0:
        raise ValueError("there are no images: give the statistics at least one batch.")
    layers = batch_norms(model)
    _refuse_inner(model)
    if still := [layer.name for layer in layers if not layer.trainable or layer.momentum == 1]:
        raise ValueError(
            f"the layer {still[0]!r} gathers no statistics: while it is recalibrated, its trainable "
            "must be True and its momentum below 1."
        )
    found = population_statistics(model, lambda i: tf.gather(inputs, i), len(inputs), batch_size)
    for layer, (mean, variance) in zip(layers, found, strict=True):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)


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
        A new, functional model. In inference mode its outputs are those of `model`, up to
        rounding; it is not meant to be trained.

    Raises
    ------
    ValueError
        If a layer cannot be folded exactly: for an activation in between, a neighbour that
        serves others, too, the zeros that a convolution pads with, an inner model, or features
        on another axis. The message names the layer and the reasons.

    References
    ----------
    Jacob et al. (2018), Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, section 3.2, for the layer before.
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "only a sequential or functional model whose input shape is known can be folded."
        )
    _refuse_inner(model)
    graph, folded = _Graph(model), dict[str, Affine]()
    for norm in batch_norms(model):
        name, affine = _absorb(norm, graph, folded)
        folded[name] = affine
    dropped = {norm.name for norm in batch_norms(model)}

    def without(operation: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return x if operation.name in dropped else operation(x, *args, **kwargs)

    new = _clone(model, without, biased=folded)
    for layer in model.layers:
        weights = folded.get(layer.name) or layer.get_weights()
        if weights and layer.name not in dropped:
            new.get_layer(layer.name).set_weights(weights)
    return new


class _Inexact(Exception):
    """A layer cannot be folded into this neighbour; the message says why."""


class _Call(NamedTuple):
    name: str  # of what is called
    inputs: list[Any]
    outputs: list[Any]


class _Graph:
    """What feeds what in a model: the calls of a copy of it."""

    def __init__(self, model: keras.Model) -> None:
        self.layers = {layer.name: layer for layer in model.layers}
        self.calls: list[_Call] = []
        self.outputs = _clone(model, self._record).outputs

    def _record(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        flat = keras.tree.flatten
        self.calls.append(_Call(operation.name, flat((args, kwargs)), flat(result)))
        return result

    def before(self, norm: Any) -> Any:
        """Return the layer that feeds this one, and nothing else."""
        call = self._only_call(norm.name)
        while True:
            (tensor,) = [one for one in call.inputs if keras.backend.is_keras_tensor(one)]
            self._check_single_reader(tensor)
            feeding = [one for one in self.calls if _among(tensor, one.outputs)]
            if not feeding:
                raise _Inexact("no layer stands before it")
            call = self._only_call(feeding[0].name)
            if not isinstance(self.layers.get(call.name), keras.layers.Dropout):
                return self._affine(call.name)

    def after(self, norm: Any) -> Any:
        """Return the layer that is fed by this one, and by nothing else."""
        call = self._only_call(norm.name)
        while True:
            (tensor,) = call.outputs
            call = self._only_call(self._check_single_reader(tensor).name)
            if not isinstance(self.layers.get(call.name), keras.layers.Dropout):
                return self._affine(call.name)

    def _only_call(self, name: str) -> _Call:
        calls = [call for call in self.calls if call.name == name]
        if len(calls) > 1:
            raise _Inexact(f"the layer {name!r} is shared: it is called {len(calls)} times")
        return calls[0]

    def _check_single_reader(self, tensor: Any) -> _Call:
        readers = [call for call in self.calls if _among(tensor, call.inputs)]
        if len(readers) != 1 or _among(tensor, self.outputs):
            raise _Inexact("what lies between it and its neighbour goes elsewhere, too")
        return readers[0]

    def _affine(self, name: str) -> Any:
        layer = self.layers.get(name)
        if not isinstance(layer, (keras.layers.Dense, *_CONVOLUTIONS)):
            raise _Inexact(f"{name!r} is neither a dense nor a convolutional layer")
        return layer


def _absorb(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    """Return which layer takes the normaliser in, and its new kernel and bias."""
    last = len(norm.input.shape) - 1
    if norm.axis not in (-1, last):
        raise ValueError(
            f"the layer {norm.name!r} cannot be folded: its features are on axis {norm.axis}, "
            "not on the last."
        )
    reasons = []
    for into in (_into_previous, _into_next):
        try:
            return into(norm, graph, folded)
        except _Inexact as reason:
            reasons.append(str(reason))
    raise ValueError(
        f"the layer {norm.name!r} cannot be folded exactly. Into the layer before: {reasons[0]}. "
        f"Into the layer after: {reasons[1]}."
    )


def _into_previous(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = graph.before(norm)
    if layer.activation is not keras.activations.linear:
        raise _Inexact(
            f"the activation of {layer.name!r}, {layer.activation.__name__}, is in between"
        )
    affine = folded.get(layer.name) or _affine(layer)
    return layer.name, from_scratch.fold(*affine, *_statistics(norm), epsilon=norm.epsilon)


def _into_next(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = graph.after(norm)
    if isinstance(layer, _CONVOLUTIONS):
        if layer.padding != "valid" and set(layer.kernel_size) != {1}:
            raise _Inexact(f"{layer.name!r} pads with zeros, which the normaliser does not shift")
        if layer.groups != 1:
            raise _Inexact(f"{layer.name!r} convolves in groups")
    kernel, bias = folded.get(layer.name) or _affine(layer)
    gamma, beta, mean, variance = _statistics(norm)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    shift = np.tensordot(beta - mean * factor, kernel, (0, -2))  # shape (..., out)
    return layer.name, (
        kernel * factor[:, None],
        bias + shift.sum(tuple(range(shift.ndim - 1))),
    )


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


def _clone(model: keras.Model, call: Callable[..., Any], biased: Container[str] = ()) -> Any:
    """Return a functional copy, with weights of its own; `call` calls each operation."""

    def fresh(operation: Any) -> Any:
        if not isinstance(operation, keras.layers.Layer):
            return operation
        config = operation.get_config()
        if operation.name in biased:
            config["use_bias"] = True
        return type(operation).from_config(config)

    if isinstance(model, keras.Sequential):
        functional = keras.Model(model.inputs[0], model.outputs[0])
    else:
        functional = keras.Model(model.input, model.output)
    return keras.models.clone_model(functional, clone_function=fresh, call_function=call)


def _refuse_inner(model: keras.Model) -> None:
    for layer in model.layers:
        moving = [variable for variable in layer.variables if variable.name == "moving_mean"]
        if moving and not isinstance(layer, keras.layers.BatchNormalization):
            raise ValueError(
                f"batch normalisation lies inside the layer {layer.name!r}: "
                "treat that model by itself, or build one flat model."
            )


def _among(tensor: Any, tensors: list[Any]) -> bool:
    return any(one is tensor for one in tensors)
