"""Make a trained model ready for use: fresh statistics, and no normaliser left to compute."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.layers import GhostBatchNormalization, NoisyBatchNormalization
from bn_tutorial.networks.statistics import deterministic

Affine = tuple[NDArray[Any], NDArray[Any]]  # a kernel and a bias

# A subclass may compute something else, so these types are meant exactly.
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_AFFINE = (keras.layers.Dense, *_CONVOLUTIONS)
_NORMS = (keras.layers.BatchNormalization, GhostBatchNormalization, NoisyBatchNormalization)


def recalibrate(model: keras.Model, images: ArrayLike, batch_size: int = 1000) -> None:
    """Replace a model's moving statistics by the statistics of the population, in place.

    It is called *precise batch norm*, too. The weights stay as they are. The images are
    shuffled, and Dropout is off.

    Parameters
    ----------
    model : keras.Model
        A sequential or functional model whose batch normalisation layers lie on its top level.
    images : array_like, shape (n, ...)
        Training inputs, scaled as the model gets them: 1,000 to 10,000 are enough.
    batch_size : int
        Images in a batch; the larger, the closer to the population, and the more memory it takes.

    Raises
    ------
    ValueError
        If the images do not fit the model, or the statistics would not be those of the
        population: for a normaliser that is frozen, shared, masked or renormalised, that has a
        momentum of 1 or lies in an inner model, or a layer other than Dropout that draws at
        random. Nothing has changed then.

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    graph = _Graph(model)
    if len(model.inputs) != 1:
        raise ValueError(f"the model has {len(model.inputs)} inputs, but must have one.")
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} is impossible: it must be at least 1.")
    try:
        inputs = np.asarray(images, keras.backend.floatx())
    except (TypeError, ValueError):
        raise ValueError(f"the images are a {type(images).__name__}: give an array.") from None
    if len(inputs) == 0:
        raise ValueError("there are no images: give the statistics at least one batch.")
    if not graph.norms:
        raise ValueError("the model has no batch normalisation layer to recalibrate.")
    for norm in graph.norms:
        _check_gathers(norm, graph)
    for layer in model.layers:
        random = any(variable.name == "seed_generator_state" for variable in layer.variables)
        if random and type(layer) not in (keras.layers.Dropout, NoisyBatchNormalization):
            raise ValueError(
                f"the layer {layer.name!r} draws at random in training, which would enter the "
                "statistics: recalibrate a model without it."
            )
    order = np.random.default_rng(0).permutation(len(inputs))
    batches = np.split(order, range(batch_size, len(order), batch_size))
    with deterministic(model):
        moments = [_moments(model, graph.norms, inputs[batch]) for batch in batches]
    share = np.array([len(batch) for batch in batches]) / len(inputs)
    for index, norm in enumerate(graph.norms):
        means, variances = (np.array(one) for one in zip(*(m[index] for m in moments), strict=True))
        mean = share @ means
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(share @ (variances + (means - mean) ** 2))


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
    graph, folded = _Graph(model), dict[str, Affine]()
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

    new = _clone(model, without, biased=folded)
    for layer in model.layers:
        weights = folded.get(layer.name) or layer.get_weights()
        if weights and layer.name not in dropped:
            new.get_layer(layer.name).set_weights(weights)
    for copy in new._flatten_layers(include_self=False):
        if hasattr(copy, "finalize_state"):  # of Normalization, derived from its weights
            copy.finalize_state()
    return new


def _check_gathers(norm: Any, graph: _Graph) -> None:
    """Check that a pass in training mode gives the layer one update, by a whole batch."""
    if not norm.trainable or norm.momentum == 1:
        raise ValueError(
            f"the layer {norm.name!r} gathers no statistics: while it is recalibrated, its trainable "
            "must be True and its momentum below 1."
        )
    if norm.renorm:
        raise ValueError(
            f"the layer {norm.name!r} cannot be recalibrated: batch renormalisation keeps more "
            "statistics than these."
        )
    calls = graph.calls_of(norm.name)
    if len(calls) > 1:
        raise ValueError(
            f"the layer {norm.name!r} is shared: it has one set of statistics for all."
        )
    if len(list(filter(keras.backend.is_keras_tensor, calls[0].inputs))) > 1:
        raise ValueError(f"the layer {norm.name!r} cannot be recalibrated: its input is masked.")


def _moments(model: keras.Model, norms: list[Any], inputs: Any) -> list[Any]:
    """Return the mean and the variance of a batch in each normaliser, in 64 bits."""
    moving = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
    zeros = [keras.ops.zeros_like(variable) for variable in moving]
    start = list(zip(moving, zeros, strict=True))
    with keras.StatelessScope(state_mapping=start) as scope:  # updates leave (1 − momentum) times
        model(inputs, training=True)
    found = []
    for norm in norms:
        pair = (norm.moving_mean, norm.moving_variance)
        values = [scope.get_current_value(one) for one in pair]
        if _among(values[0], zeros):
            raise ValueError(f"the layer {norm.name!r} gathers no statistics in training mode.")
        found.append([np.asarray(value, float) / (1 - norm.momentum) for value in values])
    return found


class _Inexact(Exception):
    """A layer cannot be folded into this neighbour; the message says why."""


class _Call(NamedTuple):
    name: str  # of what is called
    inputs: list[Any]
    outputs: list[Any]
    trains: bool  # whatever the mode of the model


class _Graph:
    """What feeds what in a model: the calls of a copy of it."""

    def __init__(self, model: keras.Model) -> None:
        if not getattr(model, "inputs", None):
            raise ValueError(
                "the model must be sequential or functional, with a known input shape."
            )
        self.layers = {layer.name: layer for layer in model.layers}
        self.norms = [layer for layer in model.layers if type(layer) in _NORMS]
        for layer in model.layers:
            moving = any(variable.name == "moving_mean" for variable in layer.variables)
            if not moving or type(layer) in _NORMS:
                continue
            if isinstance(layer, keras.layers.BatchNormalization):
                why = "is of a subclass of BatchNormalization, which may compute something else"
            else:
                why = (
                    "has batch normalisation inside, where it cannot be treated: treat an inner "
                    "model by itself, or build one flat model"
                )
            raise ValueError(f"the layer {layer.name!r} {why}.")
        self.calls: list[_Call] = []
        self.outputs = _clone(model, self._record).outputs

    def _record(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        result = operation(*args, **kwargs)
        flat = keras.tree.flatten
        trains = any(one is True for one in (*args[1:], kwargs.get("training")))
        self.calls.append(_Call(operation.name, flat((args, kwargs)), flat(result), trains))
        return result

    def before(self, norm: Any) -> Any:
        """Return the layer that feeds this one, and nothing else."""
        call = self._only_call(norm.name)
        while True:
            tensor = next(filter(keras.backend.is_keras_tensor, call.inputs))  # then masks
            self._check_single_reader(tensor)
            feeding = [one for one in self.calls if _among(tensor, one.outputs)]
            if not feeding:
                raise _Inexact("no layer stands before it")
            call = self._only_call(feeding[0].name)
            if type(self.layers.get(call.name)) is not keras.layers.Dropout:
                return self._affine(norm, call.name)

    def after(self, norm: Any) -> Any:
        """Return the layer that is fed by this one, and by nothing else."""
        call = self._only_call(norm.name)
        while True:
            (tensor,) = call.outputs
            call = self._only_call(self._check_single_reader(tensor).name)
            if type(self.layers.get(call.name)) is not keras.layers.Dropout:
                return self._affine(norm, call.name)

    def calls_of(self, name: str) -> list[_Call]:
        """Return the calls of a layer."""
        return [call for call in self.calls if call.name == name]

    def _only_call(self, name: str) -> _Call:
        calls = self.calls_of(name)
        if len(calls) > 1:
            raise _Inexact(f"the layer {name!r} is shared: it is called {len(calls)} times")
        if calls[0].trains:
            raise _Inexact(f"the layer {name!r} is called with training=True")
        return calls[0]

    def _check_single_reader(self, tensor: Any) -> _Call:
        readers = [call for call in self.calls if _among(tensor, call.inputs)]
        if _among(tensor, self.outputs):
            raise _Inexact("what lies between it and its neighbour is an output of the model")
        if len(readers) != 1:
            raise _Inexact("what lies between it and its neighbour goes elsewhere, too")
        return readers[0]

    def _affine(self, norm: Any, name: str) -> Any:
        layer: Any = self.layers.get(name)
        if type(layer) not in _AFFINE:
            raise _Inexact(f"{name!r} is neither a dense nor an ordinary convolutional layer")
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            raise _Inexact(f"{name!r} has its channels first")
        if layer.quantization_mode or layer.lora_enabled:
            raise _Inexact(f"{name!r} is quantised or has LoRA weights")
        if layer.compute_dtype != norm.compute_dtype:
            raise _Inexact(f"{name!r} computes in {layer.compute_dtype}")
        return layer


def _absorb(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
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
        except _Inexact as reason:
            reasons.append(str(reason))
    raise ValueError(
        f"the layer {norm.name!r} cannot be folded. Into the layer before: {reasons[0]}. "
        f"Into the layer after: {reasons[1]}."
    )


def _into_previous(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = graph.before(norm)
    if layer.activation is not keras.activations.linear:
        kind = getattr(layer.activation, "__name__", type(layer.activation).__name__)
        raise _Inexact(f"the activation of {layer.name!r}, {kind}, is in between")
    affine = folded.get(layer.name) or _affine(layer)
    gamma, beta, mean, variance = _statistics(norm)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    return layer.name, (affine[0] * factor, (affine[1] - mean) * factor + beta)


def _into_next(norm: Any, graph: _Graph, folded: dict[str, Affine]) -> tuple[str, Affine]:
    layer = graph.after(norm)
    if type(layer) in _CONVOLUTIONS:
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
        try:
            config = operation.get_config()
            if operation.name in biased:
                config["use_bias"] = True
            return type(operation).from_config(config)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise ValueError(f"the layer {operation.name!r} cannot be copied: {error}") from error

    if isinstance(model, keras.Sequential):
        functional, kind = keras.Model(model.inputs[0], model.outputs[0]), keras.Sequential
    else:
        functional = keras.Model(model.input, model.output)
        kind = type(functional)
    if type(model).call is not kind.call:
        raise ValueError(f"the model {model.name!r} has a call method of its own.")
    return keras.models.clone_model(functional, clone_function=fresh, call_function=call)


def _among(tensor: Any, tensors: list[Any]) -> bool:
    return any(one is tensor for one in tensors)
