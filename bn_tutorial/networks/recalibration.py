"""Make the moving statistics of a trained model those of the population."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.feeding import Fed, fed, passing
from bn_tutorial.networks.layers import kind
from bn_tutorial.networks.passes import (
    Moments,
    asked,
    at_once,
    by_batch,
    fixed_batch,
    footprint,
    is_plain,
    moments,
    normalisers,
    seen,
)
from bn_tutorial.recipe.tables import NORMALISERS

#: So many images are taken at most.
MOST = 20_000
#: A batch must have so many values of each feature: by fewer, what follows is distorted.
FEWEST = 8
#: How far two passes with the same images may be apart, in standard deviations of a feature.
ROUNDING = 1e-3


def recalibrate(model: keras.Model, images: Any, batch_size: int = 1000) -> None:
    """Replace a model's moving statistics by the statistics of the population, in place.

    It is called *precise batch norm*, too. The weights stay as they are. The images are
    shuffled, and nothing is dropped or made noisy. Each batch passes through the model normalised by
    its own statistics, so that a layer is given what the layers before it have normalised by these,
    not by the population's: in batches of a thousand images a difference that does no harm. A layer
    that is called several times gets the statistics of all that it is given.

    Parameters
    ----------
    model : keras.Model
        Any built Keras model: its batch normalisation layers may lie in inner models and in layers.
    images : array_like, list, tuple or dict of these, tf.data.Dataset, PyDataset, or iterable
        Training inputs as `fit` would take them, scaled as the model gets them: 1,000 to 10,000 are
        enough, and of more than 20,000 a part is taken.
    batch_size : int
        Images in a batch; the larger, the closer to the population. They are fewer where they would
        take too much memory.

    Raises
    ------
    ValueError
        If the images do not fit the model, the statistics would not be finite, or not be those of the
        population: of too few values in a batch, for a normaliser that is frozen, renormalised or of an
        unknown kind, or a layer that draws at random even in inference mode. Nothing has changed then.
    TypeError
        If it is no Keras model.

    References
    ----------
    Wu & Johnson (2021), Rethinking "Batch" in BatchNorm, section 3.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"a Keras model is recalibrated, and this is a {type(model).__name__}.")
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(
            f"batch_size={batch_size} is impossible: it must be a whole number from 1."
        )
    if not model.built:
        raise ValueError("the model has no weights yet: call it on a batch first.")
    norms = normalisers(model)
    if not norms:
        raise ValueError("the model has no batch normalisation layer to recalibrate.")
    for norm in norms:
        _check(norm)
    data = fed(model, images, most=MOST)
    with passing():
        some = data.at(np.arange(fixed_batch(model) or 1))
        size = min(at_once(model, footprint(model, some)), batch_size)
    found = population(model, data, size)
    for norm in norms:
        if id(norm) not in found:
            raise ValueError(f"the model does not call its layer {norm.name!r} on these images.")
        values = found[id(norm)].count * min(size, len(data)) // len(data)
        if values < FEWEST:
            raise ValueError(
                f"the layer {norm.name!r} gets {values} of each feature in a batch, which is no "
                "population: give more images, or a larger batch_size."
            )
        mean, variance = found[id(norm)].mean, found[id(norm)].variance
        largest = norm.moving_variance.dtype
        fits = np.abs(np.concatenate([mean, variance])) <= float(tf.as_dtype(largest).max)
        if not fits.all():  # NaN is not, either
            raise ValueError(
                f"the layer {norm.name!r} would get statistics that are not finite: look for images "
                "that are not, or that overflow."
            )
    for norm in norms:
        norm.moving_mean.assign(found[id(norm)].mean)
        norm.moving_variance.assign(found[id(norm)].variance)


def population(model: keras.Model, data: Fed, batch_size: int) -> dict[int, Moments]:
    """Return the moments of what each normaliser is given, by its ``id``; the model stays as it is.

    Parameters
    ----------
    model : keras.Model
        The model.
    data : Fed
        The images.
    batch_size : int
        How many of them are normalised together.

    Raises
    ------
    ValueError
        If the images do not fit the model, or two passes with the same images differ.
    """
    order, fixed = np.random.default_rng(0).permutation(len(data)), fixed_batch(model)
    # of nearly equal size: a last one of a single image would have no variance
    number = len(data) // fixed if fixed else -(-len(data) // batch_size)
    batches = np.array_split(order, number)
    first: list[dict[int, Moments]] = [{}, {}]
    refused: list[str] = []
    with passing():
        for noted in first:
            by_batch(model, data.at(batches[0]), noted)
        _check_own(model, data.at(batches[0]), refused)
        found = dict(first[0])
        for one in batches[1:]:
            by_batch(model, data.at(one), found)
    for reason in (*refused, *_unlike(normalisers(model), *first)):
        raise ValueError(reason)
    return found


def _check(norm: Any) -> None:
    """Check that what is known of a normaliser lets its statistics be computed."""
    if not norm.trainable:
        raise ValueError(
            f"the layer {norm.name!r} gathers no statistics: while it is recalibrated, its trainable "
            "must be True."
        )
    if getattr(norm, "renorm", False):
        raise ValueError(
            f"the layer {norm.name!r} cannot be recalibrated: batch renormalisation keeps more "
            "statistics than these."
        )
    if not is_plain(norm) or not hasattr(norm, "momentum"):
        raise ValueError(
            f"the layer {norm.name!r} cannot be recalibrated: its class, {type(norm).__name__}, does "
            "not say over what it normalises."
        )


def _unlike(
    norms: Sequence[Any], one: dict[int, Moments], other: dict[int, Moments]
) -> Iterator[str]:
    """Say of which normalisers two passes with the same images did not give the same."""
    for norm in norms:
        first, second = one.get(id(norm)), other.get(id(norm))
        if first is None or second is None:
            continue
        with np.errstate(invalid="ignore"):  # of what is infinite
            apart = np.abs(first.mean - second.mean) / np.sqrt(first.variance + norm.epsilon)
        if np.nanmax(apart, initial=0) > ROUNDING:
            yield (
                f"what reaches the layer {norm.name!r} differs from pass to pass: something before it "
                "draws at random even in inference mode, which would enter the statistics."
            )


def _check_own(model: keras.Model, inputs: Any, refused: list[str]) -> None:
    """Check that normalisers of unknown classes gather the statistics that are computed here."""
    kinds = {kind(row) for row in NORMALISERS.values() if row.moving}

    def see(layer: Any, call: Any, values: Any, training: Any, mask: Any) -> Any:
        ours, start = moments(layer, values, mask), (layer.moving_mean, layer.moving_variance)
        zeros = [(variable, keras.ops.zeros_like(variable)) for variable in start]
        with keras.StatelessScope(state_mapping=zeros) as scope:
            asked(call, values, True, mask)
        mean, variance = (
            np.asarray(scope.get_current_value(one)) / (1 - layer.momentum) for one in start
        )
        scale = np.sqrt(ours.variance + layer.epsilon)
        close = np.abs(mean - ours.mean) < 0.01 * scale
        close &= np.abs(np.sqrt(np.abs(variance) + layer.epsilon) / scale - 1) < 0.05
        if not close.all():
            refused.append(
                f"the layer {layer.name!r} cannot be recalibrated: its class, {type(layer).__name__}, "
                "gathers other statistics than the mean and the variance of a batch."
            )
        return asked(call, values, False, mask)

    unknown = [one for one in normalisers(model) if type(one) not in kinds and one.momentum != 1]
    if unknown:
        with seen(unknown, see):
            model(inputs, training=False)
