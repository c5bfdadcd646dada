"""Population statistics: what the moving statistics of batch normalisation estimate.

Here alone they are computed: each batch's in training mode, and all of them together by a formula
that loses no digits. The model stays as it is: weights, moving statistics and random states.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.layers import ShiftingNoise
from bn_tutorial.recipe.tables import NORMALISERS

#: Images in each batch over which population statistics are averaged.
BATCH = 1000

#: The population mean and variance of each batch normalisation layer, shape (features,).
Statistics = list[tuple[Any, Any]]


def batch_norms(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the model's layers with moving statistics (ghost and renorm ones too), in order."""
    return [layer for layer in model.layers if hasattr(layer, "moving_mean")]


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
    return over_batches(
        lambda total, indices: tf.nest.map_structure(tf.add, total, step(indices)),
        zero,
        order,
        size,
    )


def over_batches(step: Callable[[Any, Any], Any], start: Any, order: Any, size: int) -> Any:
    """Go through consecutive batches of `order`; the last may be smaller.

    Parameters
    ----------
    step : callable
        Is given what the batch before left (at first `start`), and the indices of a batch, shape
        (size,); returns what it leaves to the next.
    start : nest of tensors
        Of the shapes and dtypes that `step` returns.
    order, size
        As in `sum_over_batches`.

    Returns
    -------
    nest of tensors
        What the last batch left.
    """
    whole = order.shape[0] - order.shape[0] % size
    batches, state = tf.reshape(order[:whole], (-1, size)), start
    if whole:
        _, state = tf.while_loop(
            lambda index, _: index < batches.shape[0],
            lambda index, state: (index + 1, step(state, batches[index])),
            (0, state),
        )
    if whole < order.shape[0]:
        state = step(state, order[whole:])
    return state


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

    They are the mean and the variance of all that a layer is given, when each batch is normalised
    by its own statistics (by ghost and renorm layers, too) and Dropout is off, as it is at
    inference. Batches are put together by `merged`, in 64 bits.

    So only those of the first such layer are the population's own. What a later layer is given
    has been normalised batch by batch, by statistics that scatter around the population's. With
    n values in a batch that changes its mean and variance by the order of 1/n; in batches of
    a thousand images it does no harm.

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
        One pair per layer of `batch_norms`, each of shape (features,), float32.

    Raises
    ------
    ValueError
        If a layer gathers no statistics in training mode.

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    layers = batch_norms(model)
    if not layers:
        return []
    start = [(tf.zeros(layer.moving_mean.shape, tf.float64),) * 2 for layer in layers]

    def add(state: tuple[Any, Statistics], indices: Any) -> tuple[Any, Statistics]:
        seen, statistics = state
        batch = [
            (tf.cast(mean, tf.float64), tf.cast(variance, tf.float64))
            for mean, variance in batch_statistics(model, images(indices))
        ]
        seen += indices.shape[0]
        return seen, merged(statistics, batch, indices.shape[0] / seen)

    with deterministic(model):
        size = even_batch(count) if batch_size is None else min(batch_size, count)
        state = (tf.zeros((), tf.float64), start)
        _, statistics = over_batches(add, state, tf.range(count), size)
    return [
        (tf.cast(mean, tf.float32), tf.cast(variance, tf.float32)) for mean, variance in statistics
    ]


def batch_statistics(model: keras.Model, images: Any) -> Statistics:
    """Return the mean and the variance of one batch in each normaliser, in training mode.

    Keras computes them in a stateless scope in which the moving statistics start from zero, so
    that after one update they are (1 − momentum) times the batch's own.

    Parameters
    ----------
    model : keras.Model
        As in `population_statistics`.
    images : tensor
        A batch of its inputs.

    Returns
    -------
    list of (mean, variance)
        One pair per layer of `batch_norms`, each of shape (features,). With dropout and noise,
        unless `deterministic` switches them off.

    Raises
    ------
    ValueError
        If a layer gathers no statistics in training mode.
    """
    layers = batch_norms(model)
    moving = [(layer.moving_mean, layer.moving_variance) for layer in layers]
    zeros = [(variable, keras.ops.zeros_like(variable)) for pair in moving for variable in pair]
    with keras.StatelessScope(state_mapping=zeros) as scope:
        model(images, training=True)
    found = []
    for layer, pair, (_, zero) in zip(layers, moving, zeros[::2], strict=True):
        mean, variance = map(scope.get_current_value, pair)
        if mean is zero:
            raise ValueError(f"the layer {layer.name!r} gathers no statistics in training mode.")
        found.append((mean / (1 - layer.momentum), variance / (1 - layer.momentum)))
    return found


def merged(one: Statistics, other: Statistics, share: Any) -> Statistics:
    """Return the statistics of two sets of images together.

    By the law of total variance; E[x²] − E[x]² is the same, but its digits cancel where a mean is
    large beside the standard deviation.

    Parameters
    ----------
    one, other : list of (mean, variance)
        The statistics of each set.
    share : float or scalar tensor
        Which part of all images is in the second set.

    References
    ----------
    Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance.
    """
    return [
        (
            mean + share * (new_mean - mean),
            variance
            + share * (new_variance - variance)
            + share * (1 - share) * (new_mean - mean) ** 2,
        )
        for (mean, variance), (new_mean, new_variance) in zip(one, other, strict=True)
    ]


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
    plain: dict[str, Any] = {"rate": 0.0, "synchronized": False}
    for row in NORMALISERS.values():
        plain |= row.plain
    changed = [
        (layer, name, getattr(layer, name))
        for layer in model.layers
        for name in plain
        if isinstance(layer, (keras.layers.Dropout, keras.layers.BatchNormalization, ShiftingNoise))
        and hasattr(layer, name)
    ]
    for layer, name, _ in changed:
        setattr(layer, name, plain[name])
    try:
        yield
    finally:
        for layer, name, value in changed:
            setattr(layer, name, value)
