"""Passes through a model that leave no trace in it, and note what its normalisers are given."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.statistics import merged

#: Up to so many values are averaged in 64 bits.
EXACT = 2**20

#: So many bytes may be on their way through a model at once, roughly.
MEMORY = 8e8

#: What stands for a normaliser's call: is given the layer, its own call, inputs, mode and mask.
See = Callable[[Any, Callable[..., Any], Any, Any, Any], Any]


@dataclasses.dataclass
class Moments:
    """The mean and the variance of what a normaliser was given, in 64 bits.

    Attributes
    ----------
    count : int
        How many values of each feature there were.
    mean, variance : numpy.ndarray, shape (features,)
        Their mean and biased variance.
    """

    count: int
    mean: NDArray[Any]
    variance: NDArray[Any]

    def and_also(self, other: Moments) -> Moments:
        """Return the moments of both sets of values together."""
        count = self.count + other.count
        one, another = ([(part.mean, part.variance)] for part in (self, other))
        with np.errstate(invalid="ignore"):  # of what is infinite
            ((mean, variance),) = merged(one, another, other.count / count)
        return Moments(count, mean, variance)


def normalisers(model: keras.Model) -> list[Any]:
    """Return the layers with moving statistics, wherever in the model they lie."""
    layers = [model, *model._flatten_layers(include_self=False)]
    return [layer for layer in layers if hasattr(layer, "moving_variance")]


def is_plain(layer: Any) -> bool:
    """Return whether a normaliser says over which one axis of features it normalises."""
    return isinstance(getattr(layer, "axis", None), int) and hasattr(layer, "epsilon")


def fixed_batch(model: keras.Model) -> int | None:
    """Return how many examples a model must be given at a time, if that was fixed."""
    inputs = getattr(model, "inputs", None)
    return inputs[0].shape[0] if inputs else None


def rest(model: keras.Model) -> None:
    """Let layers forget what they keep from batch to batch, as recurrent ones may."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state"):
            layer.reset_state()


@contextlib.contextmanager
def same_draws() -> Iterator[None]:
    """Give random states back at the end of a ``with`` statement."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    eager = importlib.import_module("tensorflow.python.eager.context").context()  # no public way
    drawn = getattr(eager, "_rng", None)
    drawing = drawn and drawn.getstate()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        if drawn:
            drawn.setstate(drawing)


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Undo at the end of a ``with`` statement what passes change: variables and random states."""
    eagerly = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)  # a compiled call would pass the watchers by
    try:
        with same_draws(), keras.StatelessScope():  # what is assigned to variables stays in it
            yield
    finally:
        tf.config.run_functions_eagerly(eagerly)


@contextlib.contextmanager
def seen(layers: Iterable[Any], see: See) -> Iterator[None]:
    """Let `see` stand for the calls of these layers within a ``with`` statement."""
    layers = list(layers)
    for layer in layers:
        vars(layer)["call"] = functools.partial(_seen, see, layer, layer.call)
    try:
        yield
    finally:
        for layer in layers:
            del vars(layer)["call"]


def _seen(
    see: See,
    layer: Any,
    call: Any,
    inputs: Any,
    training: Any = None,
    mask: Any = None,
    **own: Any,
) -> Any:
    return see(layer, functools.partial(call, **own), inputs, training, mask)


def footprint(model: keras.Model, inputs: Any) -> float:
    """Return how many bytes an example takes on its way, roughly: by what normalisers are given.

    Parameters
    ----------
    model : keras.Model
        The model, within `untouched`.
    inputs : nest of arrays
        Some examples.
    """
    taken = []

    def see(layer: Any, call: Any, values: Any, training: Any, mask: Any) -> Any:
        # of four bytes each: before, behind, and twice as much between layers
        taken.append(4 * 4 * int(np.prod(values.shape[1:])))
        return asked(call, values, training, mask)

    rest(model)
    with seen(normalisers(model), see):
        model(inputs, training=False)
    return float(sum(taken))


def at_once(model: keras.Model, taken: float) -> int:
    """Return how many examples of this `footprint` may pass at once: as many as fit into `MEMORY`."""
    return fixed_batch(model) or max(int(MEMORY // max(taken, 1)), 8)


def asked(call: Callable[..., Any], inputs: Any, training: Any, mask: Any) -> Any:
    """Return what a call answers; of a mask it is told only if there is one."""
    return call(inputs, training=training, **({} if mask is None else {"mask": mask}))


def other_axes(layer: Any, rank: int) -> list[int]:
    """Return all axes of a normaliser's inputs but that of its features."""
    return [one for one in range(rank) if one != layer.axis % rank]


def moments(layer: Any, inputs: Any, mask: Any = None) -> Moments:
    """Return the moments of a normaliser's inputs, over all axes but that of its features."""
    large = tf.size(inputs) > EXACT  # of many values, 32 bits tell as much as anybody needs
    values = tf.cast(inputs, tf.float32 if large else tf.float64)
    axes = other_axes(layer, len(values.shape))
    if mask is None:
        mean, variance = tf.nn.moments(values, axes)
        count = tf.size(values) // values.shape[layer.axis]
    else:
        # the last axis, as Keras has it, whatever that of the features
        weights = tf.cast(tf.expand_dims(mask, -1), values.dtype)
        mean, variance = tf.nn.weighted_moments(values, axes, weights)
        count = tf.reduce_sum(weights)
    return Moments(int(count), mean.numpy().astype(float), variance.numpy().astype(float))


def with_moments(layer: Any, call: Any, inputs: Any, mask: Any, known: Moments) -> Any:
    """Return what a normaliser answers in inference mode with these in place of moving statistics."""
    mapping = [
        (variable, tf.cast(value, variable.dtype))
        for variable, value in (
            (layer.moving_mean, known.mean),
            (layer.moving_variance, known.variance),
        )
    ]
    with keras.StatelessScope(state_mapping=mapping):
        return asked(call, inputs, False, mask)


def by_batch(
    model: keras.Model,
    inputs: Any,
    noted: dict[int, Moments] | None = None,
    idle: Container[int] = (),
    training: bool = False,
) -> Any:
    """Return a model's outputs if it normalises by this batch, and is in inference mode otherwise.

    What is frozen stays in inference mode, too.

    Parameters
    ----------
    model : keras.Model
        The model, within `untouched`.
    inputs : nest of arrays
        A batch of what it is called with.
    noted : dict, optional
        To which the moments of each normaliser's inputs are added, by its ``id``.
    idle : container of int
        The ``id`` of normalisers that are in inference mode in training, too.
    training : bool
        Whether other layers drop and add noise, as in training.
    """
    rest(model)

    def see(layer: Any, call: Any, values: Any, _: Any, mask: Any) -> Any:
        found = moments(layer, values, mask)
        if noted is not None:
            before = noted.get(id(layer))
            noted[id(layer)] = before.and_also(found) if before else found
        if not layer.trainable or id(layer) in idle:
            return asked(call, values, False, mask)
        return with_moments(layer, call, values, mask, found)

    with seen(filter(is_plain, normalisers(model)), see):
        return model(inputs, training=training)


def with_statistics_of(model: keras.Model, inputs: Any, known: Mapping[int, Moments]) -> Any:
    """Return a model's outputs in inference mode, with these in place of moving statistics."""
    rest(model)

    def see(layer: Any, call: Any, values: Any, training: Any, mask: Any) -> Any:
        return with_moments(layer, call, values, mask, known[id(layer)])

    with seen([one for one in normalisers(model) if id(one) in known], see):
        return model(inputs, training=False)
