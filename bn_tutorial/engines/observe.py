"""Engines that train a network as `bn_tutorial.engines.single.fit` does and measure it on the way.

Each has the name of what it measures in `bn_tutorial.engines.probes`. It is given what
`bn_tutorial.engines.single.fit` is given and yields its rows, with what is said below besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.engines import probes, single
from bn_tutorial.engines.batches import batch, epoch_order, hits
from bn_tutorial.engines.probes import QUANTILES, UNITS
from bn_tutorial.engines.program import Probe
from bn_tutorial.engines.rows import Row, numbered
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe.recipes import Recipe

#: Training images over which `covariate_shift` compares distributions.
FIXED = 500
#: Units of the last hidden layer whose quantiles `covariate_shift` keeps.
KEPT = 4
#: How long the steps are along which one looks, as shares of the length of each layer's variables.
SHARES = (0.01, 0.03, 0.1)

#: What the two probes that look along steps return.
_SHIFT = ("shift", "shift_absolute", "cosine")
_LANDSCAPE = (
    *("landscape_low", "landscape_high", "beta"),
    *("gradient_change", "gradient_change_absolute"),
)


def covariate_shift(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and measure internal covariate shift in both of its senses.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`; the network is dense or convolutional.

    Yields
    ------
    dict of str to float
        After each epoch, besides: for each of the `SHARES` ``shift 1%/0`` …, ``shift_absolute 1%/0``
        … and ``cosine 1%/0`` … and so on, of `bn_tutorial.engines.probes.covariate_shift`, of the
        batch that would be next;
        ``mean/0`` … and ``deviation/0`` … of `bn_tutorial.engines.probes.preactivations`, of the
        first `FIXED` training images, layer by layer; ``quantiles/0`` … of the first `KEPT` of its
        units of the last hidden layer, unit by unit. ``drift/0`` … is, for each hidden layer and
        from the second epoch on, by how much distributions have moved in an epoch: the mean
        absolute change of a unit's quantiles (nearly the Wasserstein-1 distance), divided by the
        distance between its 15 % and 85 % quantiles before, averaged over units. ``shape/0`` … is
        the same once each unit's quantiles have been standardised: what moves besides mean and
        deviation, which a normaliser fixes by construction.
    """
    (images, _), _, _ = bench.resident(recipe, seed)
    first = tf.range(min(FIXED, len(images)))
    fixed = batch(images, first, *bench.pixel_statistics(recipe, seed))
    # one probe for all runs on so many images: it is compiled once
    kept, probe = bench.keep(__name__, len(first), lambda: _shift_probe(fixed), most=2)
    kept.assign(fixed)
    before = None
    for row in single.fit(bench, recipe, seed, probe):
        names = [name for name in row if name.startswith("quantiles/")]
        now = np.array([row.pop(name) for name in names]).reshape(-1, UNITS, len(QUANTILES))
        if before is not None:
            shape = drift(_standardised(before), _standardised(now))
            row |= numbered({"drift": drift(before, now), "shape": shape})
        yield row | numbered({"quantiles": now[-1, :KEPT].ravel()})
        before = now


def drift(before: npt.NDArray[Any], now: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return by how much the distributions of units have moved, layer by layer.

    Parameters
    ----------
    before, now : ndarray, shape (layers, units, len(QUANTILES))
        The quantiles of each unit.

    Returns
    -------
    ndarray, shape (layers,)
        As `covariate_shift` defines it.
    """
    quantile_range = before[..., QUANTILES.index(0.85)] - before[..., QUANTILES.index(0.15)]
    with np.errstate(invalid="ignore", divide="ignore"):  # of a run that diverged
        moved = np.abs(now - before).mean(axis=-1) / quantile_range
    return moved.mean(axis=-1)  # type: ignore[no-any-return]


def _standardised(quantiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = quantiles - quantiles.mean(axis=-1, keepdims=True)
        return centred / centred.std(axis=-1, keepdims=True)  # type: ignore[no-any-return]


def _by_share(
    probe: Probe, names: Iterable[str], model: Any, inputs: Any, targets: Any
) -> dict[str, Any]:
    """Return what a probe, which finds these, finds along steps of each length."""
    found = tf.map_fn(  # a loop is compiled once for all lengths
        lambda share: probe(model, inputs, targets, share),
        tf.constant(SHARES),
        fn_output_signature=dict.fromkeys(names, tf.float32),
    )
    return {
        f"{name} {share:.0%}": values[index]
        for name, values in found.items()
        for index, share in enumerate(SHARES)
    }


def _shift_probe(inputs: Any) -> tuple[tf.Variable, Probe]:
    """Return the inputs over which distributions are compared, as a variable, and the probe."""
    fixed = tf.Variable(inputs)

    def probe(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
        return {
            **_by_share(probes.covariate_shift, _SHIFT, model, inputs, targets),
            **probes.preactivations(model, tf.convert_to_tensor(fixed)),
        }

    return fixed, probe


def landscape(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and look along the gradient after each epoch.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`.

    Yields
    ------
    dict of str to float
        After each epoch, besides: what `bn_tutorial.engines.probes.landscape` returns, of the
        batch that would be next, for each of the `SHARES`: ``landscape_low 1%`` and so on.
    """
    return single.fit(bench, recipe, seed, _landscape_probe)


def _landscape_probe(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
    return _by_share(probes.landscape, _LANDSCAPE, model, inputs, targets)


def weight_geometry(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and measure the hidden kernels and their gradients after each epoch.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`.

    Yields
    ------
    dict of str to float
        After each epoch, besides: ``norm/0`` …, ``gradient_norm/0`` … and ``alignment/0`` … of
        `bn_tutorial.engines.probes.weight_geometry`, of the batch that would be next, hidden
        layer by hidden layer.
    """
    return single.fit(bench, recipe, seed, _geometry_probe)


def _geometry_probe(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
    return probes.weight_geometry(model, inputs, targets)


def gradient_norms(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Measure the gradient in every hidden layer of a network before any training.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`; but nothing is trained, whatever ``epochs`` says.

    Yields
    ------
    dict of str to float
        One row. ``gradient/0`` …: `bn_tutorial.engines.probes.gradient_norms` of the first batch
        of an epoch. ``loss`` and ``accuracy``: on that batch, in training mode. ``val_loss`` and
        ``val_accuracy``: on the validation images (the test images if none are held out), in
        inference mode.
    """
    program = bench.program(recipe)  # a deep network takes longer to build than to measure
    program.start(recipe, seed)
    model = program.model
    (images, labels), validation, _ = bench.resident(recipe, seed)
    pixels = bench.pixel_statistics(recipe, seed)
    first = epoch_order(seed, 0, len(labels))[: recipe.batch_size]
    inputs, targets = batch(images, first, *pixels), tf.gather(labels, first)
    others = batch(validation[0], tf.range(len(validation[1])), *pixels)
    loss, accuracy = _outcome(model, inputs, targets, training=True)
    val_loss, val_accuracy = _outcome(model, others, validation[1], training=False)
    yield numbered(
        {
            "gradient": probes.gradient_norms(model, inputs, targets),
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": val_loss,
            "val_accuracy": val_accuracy,
        }
    )


def branches(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Measure how large each residual branch of a network is before any training.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with ``residual="sum"``; but nothing is trained.

    Yields
    ------
    dict of str to float
        One row. ``branch/0`` …: the standard deviation of what a branch adds, over that of the sum it is
        added to, of the first batch of an epoch in training mode; and ``loss`` on it.

    Raises
    ------
    ValueError
        If the recipe's network has no residual branches.

    References
    ----------
    De & Smith (2020), Batch normalization biases residual blocks towards the identity function in
    deep networks.
    """
    if not recipe.residual or recipe.depth == 1:
        raise ValueError(
            f"residual={recipe.residual!r} with depth={recipe.depth} is impossible here: "
            "there must be a branch."
        )
    program = bench.program(recipe)
    program.start(recipe, seed)
    (images, labels), *_ = bench.resident(recipe, seed)
    first = epoch_order(seed, 0, len(labels))[: recipe.batch_size]
    inputs = batch(images, first, *bench.pixel_statistics(recipe, seed))
    loss, _ = _outcome(program.model, inputs, tf.gather(labels, first), training=True)
    yield numbered({"branch": probes.branches(program.model, inputs), "loss": loss})


def _outcome(model: keras.Model, inputs: Any, targets: Any, training: bool) -> tuple[Any, Any]:
    """Return the loss and the accuracy."""
    with keras.StatelessScope():
        outputs = model(inputs, training=training)
    losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
    return tf.reduce_mean(losses), hits(targets, outputs) / len(targets)
