"""Population statistics: what the moving statistics of batch normalisation estimate.

The model stays as it is: weights, moving statistics and random states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from bn_tutorial.networks.backend import keras, tf

#: Images in each batch over which population statistics are averaged.
BATCH = 1000

#: The population mean and variance of each batch normalisation layer, shape (features,).
Statistics = list[tuple[Any, Any]]


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the model's batch normalisation layers (ghost and renorm ones too), in order."""
    return [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]


def sum_over_batches(step: Callable[[Any], Any], zero: Any, order: Any, size: int) -> Any:
    """Sum what `step` returns for consecutive batches of `order`; the last may be smaller.

    Parameters
    ----------
    step : callable
        Is given the indices of a batch, shape (size,), and returns a nest of tensors.
    zero : nest of tensors
        Zeros of the shapes and dtypes that `step` returns.
    order : tensor of int32, shape (n,)
        The indices of the images; n must be known when the graph is built.
    size : int
        The size of a batch.

    Returns
    -------
    nest of tensors
        The sums.
    """
    whole = order.shape[0] - order.shape[0] % size
    batches = tf.reshape(order[:whole], (-1, size))

    def add(total: Any, more: Any) -> Any:
        return tf.nest.map_structure(tf.add, total, more)

    total = zero
    if whole:
        _, total = tf.while_loop(
            lambda index, _: index < batches.shape[0],
            lambda index, total: (index + 1, add(total, step(batches[index]))),
            (0, zero),
        )
    if whole < order.shape[0]:
        total = add(total, step(order[whole:]))
    return total


def even_batch(count: int, most: int = BATCH) -> int:
    """Return the largest batch of at most `most` images that leaves no smaller last batch.

    A smaller last batch is compiled a second time. If none that divides `count` has at least a
    tenth of `most`, it is `most` all the same.
    """
    sizes = range(min(most, count), most // 10, -1)
    return next((size for size in sizes if count % size == 0), min(most, count))


def population_statistics(
    model: keras.Model, images: Callable[[Any], Any], count: int, batch_size: int | None = None
) -> Statistics:
    """Compute the statistics that the moving ones estimate, for the weights as they are.

    Every layer's batch mean μ and variance σ² are averaged over `count` images, as
    mean = E[μ] and variance = E[μ² + σ²] − E[μ]². Dropout is off, as it is at inference, and
    every layer normalises by its batch's own statistics, ghost and renorm ones too.
    Neither weights nor moving statistics are touched: Keras computes them in a stateless
    scope in which the moving statistics start from zero, so that after one update they
    are (1 − momentum) times the batch's own.

    Parameters
    ----------
    model : keras.Model
        Any Keras model whose batch normalisation layers lie on its top level.
    images : callable
        Given indices, returns the network's inputs, shape (len(indices), ...), float32.
    count : int
        Images to use; their indices are 0 to count − 1. Wu & Johnson find 1,000 to
        10,000 enough.
    batch_size : int, optional
        Images in a batch; by default, what `even_batch` says.

    Returns
    -------
    list of (mean, variance)
        One pair per layer of `batch_norms`, each of shape (features,).

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    layers = batch_norms(model)
    if not layers:
        return []
    zeros = [
        (tf.zeros_like(layer.moving_mean), tf.zeros_like(layer.moving_variance)) for layer in layers
    ]

    def moments(indices: Any) -> Statistics:
        start = [
            (variable, tf.zeros_like(variable))
            for layer in layers
            for variable in (layer.moving_mean, layer.moving_variance)
        ]
        with keras.StatelessScope(state_mapping=start) as scope:
            model(images(indices), training=True)
        share = indices.shape[0] / count
        sums = []
        for layer in layers:
            mean = scope.get_current_value(layer.moving_mean) / (1 - layer.momentum)
            variance = scope.get_current_value(layer.moving_variance) / (1 - layer.momentum)
            sums.append((share * mean, share * (tf.square(mean) + variance)))
        return sums

    with deterministic(model):
        size = even_batch(count) if batch_size is None else min(batch_size, count)
        sums = sum_over_batches(moments, zeros, tf.range(count), size)
    return [(mean, tf.maximum(square - tf.square(mean), 0.0)) for mean, square in sums]


def with_statistics(model: keras.Model, images: Any, statistics: Statistics) -> Any:
    """Run a model in inference mode with the given statistics in place of the moving ones.

    Parameters
    ----------
    model : keras.Model
        The model; nothing in it changes.
    images : tensor
        Its inputs.
    statistics : list of (mean, variance)
        As `population_statistics` returns them.

    Returns
    -------
    tensor
        The model's outputs.
    """
    mapping = [
        pair
        for layer, (mean, variance) in zip(batch_norms(model), statistics, strict=True)
        for pair in ((layer.moving_mean, mean), (layer.moving_variance, variance))
    ]
    with keras.StatelessScope(state_mapping=mapping):
        return model(images, training=False)


@contextlib.contextmanager
def deterministic(model: keras.Model) -> Iterator[None]:
    """Let normalisers compute, in training mode, plain batch normalisation, without dropout."""
    plain = {"rate": 0.0, "noise": False, "size": None, "renorm": False, "synchronized": False}
    changed = [
        (layer, name, getattr(layer, name))
        for layer in model.layers
        for name in plain
        if isinstance(layer, (keras.layers.Dropout, keras.layers.BatchNormalization))
        and hasattr(layer, name)
    ]
    for layer, name, _ in changed:
        setattr(layer, name, plain[name])
    try:
        yield
    finally:
        for layer, name, value in changed:
            setattr(layer, name, value)
