"""Make a trained model ready for use: fresh statistics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.graph import Graph
from bn_tutorial.networks.layers import kind
from bn_tutorial.networks.statistics import (
    Statistics,
    batch_statistics,
    deterministic,
    merged,
)
from bn_tutorial.recipe import NORMALISERS


def recalibrate(model: keras.Model, images: ArrayLike, batch_size: int = 1000) -> None:
    """Replace a model's moving statistics by the statistics of the population, in place.

    It is called *precise batch norm*, too. The weights stay as they are. The images are
    shuffled, and Dropout is off. Each batch passes through the model in training mode, so that a
    layer is given what the layers before it have normalised by that batch's own statistics, not
    by the population's: in batches of a thousand images a difference that does no harm.

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
    graph = Graph(model)
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
    switched_off = {kind(row) for row in NORMALISERS.values() if row.random}
    for layer in model.layers:
        random = any(variable.name == "seed_generator_state" for variable in layer.variables)
        if random and type(layer) not in {keras.layers.Dropout, *switched_off}:
            raise ValueError(
                f"the layer {layer.name!r} draws at random in training, which would enter the "
                "statistics: recalibrate a model without it."
            )
    order = np.random.default_rng(0).permutation(len(inputs))
    statistics: Statistics = []
    with deterministic(model):
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            batch = [
                (np.asarray(mean, float), np.asarray(variance, float))
                for mean, variance in batch_statistics(model, inputs[part])
            ]
            statistics = merged(statistics or batch, batch, len(part) / (start + len(part)))
    for norm, (mean, variance) in zip(graph.norms, statistics, strict=True):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)


def _check_gathers(norm: Any, graph: Graph) -> None:
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
