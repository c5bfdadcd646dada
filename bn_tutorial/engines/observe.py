"""Engines that train a network as `bn_tutorial.engines.single.fit` does and observe it on the way."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import probes, single
from bn_tutorial.engines.probes import (
    QUANTILES,
    UNITS,
    covariate_shift,
    gradient_norms,
    preactivations,
    weight_geometry,
)
from bn_tutorial.engines.single import History, Probe
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import (
    Statistics,
    batch_norms,
    population_statistics,
    with_statistics,
)
from bn_tutorial.recipe import Recipe

#: Training images over which `shift` compares distributions.
FIXED = 500
#: Units of the last hidden layer whose quantiles `shift` keeps.
KEPT = 4
#: Momenta of the averages that `statistics` keeps.
MOMENTA = (0.9, 0.99, 0.999)
#: Images over which `statistics` averages besides all that there are.
COUNTS = (100, 1_000)
#: How often `statistics` measures.
POINTS = 12


def shift(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train, and measure internal covariate shift in both of its senses.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`; the network is dense or convolutional.

    Returns
    -------
    dict of str to list of float
        What `bn_tutorial.engines.single.fit` returns, and after each epoch: ``shift/0`` …,
        ``shift_absolute/0`` … and ``cosine/0`` … of
        `covariate_shift`, of the batch that would be next; ``mean/0`` … and
        ``deviation/0`` … of `preactivations`, of the first `FIXED` training images, layer by
        layer; ``quantiles/0`` … of the first `KEPT` of its units of the last hidden layer, unit
        by unit. ``drift/0`` … is, for each hidden layer and from the second epoch on, by how
        much distributions have moved in an epoch: the mean absolute change of a unit's
        quantiles (nearly the Wasserstein-1 distance), divided by the distance between its 15 %
        and 85 % quantiles before, averaged over units.
    """
    probe = _shift_probe(data, recipe.inputs, recipe.train_size, recipe.validation)
    history = single.fit(recipe, data, seed, on_epoch, probe)
    names = [name for name in history if name.startswith("quantiles/")]
    quantiles = np.array([history.pop(name) for name in names]).T
    quantiles = quantiles.reshape(len(quantiles), -1, UNITS, len(QUANTILES))
    spread = quantiles[..., QUANTILES.index(0.85)] - quantiles[..., QUANTILES.index(0.15)]
    with np.errstate(invalid="ignore", divide="ignore"):  # of a run that diverged
        moved = np.abs(np.diff(quantiles, axis=0)).mean(axis=-1) / spread[:-1]
    kept = quantiles[:, -1, :KEPT].reshape(len(quantiles), -1)
    for name, columns in (("drift", moved.mean(axis=-1)), ("quantiles", kept)):
        history |= {f"{name}/{index}": values.tolist() for index, values in enumerate(columns.T)}
    return history


def landscape(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train, and look along the gradient after each epoch.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`.

    Returns
    -------
    dict of str to list of float
        What `bn_tutorial.engines.single.fit` returns, and after each epoch what
        `bn_tutorial.engines.probes.landscape` returns, of the batch that would be next.
    """
    return single.fit(recipe, data, seed, on_epoch, probes.landscape)


def geometry(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train, and measure the hidden kernels and their gradients after each epoch.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`.

    Returns
    -------
    dict of str to list of float
        What `bn_tutorial.engines.single.fit` returns, and after each epoch ``norm/0`` …,
        ``gradient_norm/0`` … and ``alignment/0`` … of `weight_geometry`, of the batch that
        would be next, hidden layer by hidden layer.
    """
    return single.fit(recipe, data, seed, on_epoch, _geometry_probe)


def _geometry_probe(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
    return weight_geometry(model, inputs, targets)


@functools.lru_cache(maxsize=2)  # one probe for all runs on the same images: it is compiled once
def _shift_probe(data: Dataset, inputs: str, train_size: int | None, validation: int) -> Probe:
    recipe = Recipe(inputs=inputs, train_size=train_size, validation=validation, batch_size=1)
    (images, _), _, _ = single._resident(data, train_size, validation)
    shifted, scale = single.scaling(recipe, data)
    fixed = single._batch(images, tf.range(min(FIXED, len(images))), shifted, scale)

    def probe(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
        return {
            **covariate_shift(model, inputs, targets, learning_rate),
            **preactivations(model, fixed),
        }

    return probe


def statistics(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train, and compare the averages that could stand in for a batch's statistics.

    Averages do not influence training, so those of several kinds are kept beside each other in
    one run. At `POINTS` steps, spread evenly over the logarithm of their number, the network
    predicts in inference mode with each of them, and in training mode. Epochs have no
    smaller last batch here: the images left over are skipped.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`, with ``norm="batch"``. A momentum in ``norm_options``
        has no effect.

    Returns
    -------
    dict of str to list of float
        One value for each point. ``step``: steps so far. ``loss``, ``accuracy``: in training,
        averaged since the point before. ``val_loss``, ``val_accuracy``: with Keras's
        average of momentum 0.99. For each kind of average, on the same images:
        ``accuracy/<kind>``; ``kl/<kind>``, the mean over images of the divergence KL(p‖q) of
        its prediction q from that in training mode p, in nats; for the first normaliser
        ``distance/<kind>``, ‖mean − population mean‖ / ‖population mean − 0‖, where 0 is the
        moving mean's initial value; and ``ratio/<kind>``, variance / population variance
        averaged over features. ``accuracy/batch`` is in training mode, in batches of the
        recipe's size. The kinds are ``0.99`` and the other `MOMENTA` as Keras has them;
        ``0.99 debiased``, without the weight of the initial values; ``0.99 unbiased``,
        of variances with Bessel's correction, as PyTorch has them; ``population 100`` and
        other `COUNTS`, recomputed from so many training images; and ``population``, from
        all or from 10,000, which is the population of the distances and ratios.

    Raises
    ------
    ValueError
        If the recipe has no batch normalisation.
    """
    if recipe.norm != "batch":
        raise ValueError(f"norm={recipe.norm!r} is impossible here: it must be 'batch'.")
    program = _averaging(recipe, data.x_train.shape[1:], len(data.classes))
    train, validation, _ = single._resident(data, recipe.train_size, recipe.validation)
    pixels = single.scaling(recipe, data)
    program.start(recipe, seed)
    size, count = recipe.batch_size, len(train[1])
    per_epoch = count // size
    orders = [single.epoch_order(seed, epoch, count) for epoch in range(recipe.epochs + 1)]
    steps = np.concatenate([order[: per_epoch * size] for order in orders[:-1]]).reshape(-1, size)
    # the last batch is filled up with the first images, so that none is smaller
    seen = np.resize(
        np.arange(len(validation[1]), dtype=np.int32), (-(-len(validation[1]) // size), size)
    )
    history: History = {}
    averages, done = program.initial(), 0
    for stop in np.unique(np.geomspace(1, len(steps), POINTS).round().astype(np.int32)):
        loss, accuracy, averages = program.average(
            *train, steps, *map(tf.constant, (done, stop)), averages, *pixels
        )
        kinds = program.kinds(averages, int(stop), size)
        names = [*kinds, *(f"population {used}" for used in _counts(count)), "population"]
        noisy = program.in_training(validation[0], seen, *pixels)
        found = program.compare(
            *validation, noisy, train[0], orders[-1], [*kinds.values()], *pixels
        )
        keras_has = names.index("0.99")
        row = {
            "step": stop,
            "loss": loss,
            "accuracy": accuracy,
            "val_loss": found["loss"][keras_has],
            "val_accuracy": found["accuracy"][keras_has],
            "accuracy/batch": found["batch"],
        }
        for key in ("accuracy", "kl", "distance", "ratio"):
            row |= {f"{key}/{name}": value for name, value in zip(names, found[key], strict=True)}
        for name, value in row.items():
            history.setdefault(name, []).append(float(value))
        for _ in range(done // per_epoch, stop // per_epoch):
            on_epoch()
        done = stop
        if not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss")):
            break
    return history


class _Averaging(single._Program):
    """A program that trains from step to step, and keeps averages beside the network."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.average = self._compiled(self._average)
        self.in_training = self._compiled(self._in_training)
        self.compare = self._compiled(self._compare)

    def initial(self) -> Statistics:
        """Return the averages before the first step, for each of the momenta: 0 and 1."""
        shapes = [(len(MOMENTA), *mean.shape) for mean, _ in self._moving()]
        return [(np.zeros(shape, np.float32), np.ones(shape, np.float32)) for shape in shapes]

    def kinds(self, averages: Statistics, step: int, batch_size: int) -> dict[str, Statistics]:
        """Return the averages as Keras has them, debiased and unbiased, by name."""
        counts = [  # values of a feature in a batch
            batch_size * math.prod(layer.input.shape[1:-1]) for layer in batch_norms(self.model)
        ]
        kinds: dict[str, Statistics] = {}
        for row, momentum in enumerate(MOMENTA):
            plain = [(mean[row].numpy(), variance[row].numpy()) for mean, variance in averages]
            weight = momentum**step  # of the initial values
            kinds[f"{momentum}"] = plain
            kinds[f"{momentum} debiased"] = [
                (mean / (1 - weight), np.maximum(variance - weight, 0) / (1 - weight))
                for mean, variance in plain
            ]
            kinds[f"{momentum} unbiased"] = [
                (mean, weight + (variance - weight) * count / max(count - 1, 1))
                for (mean, variance), count in zip(plain, counts, strict=True)
            ]
        return kinds

    def _moving(self) -> Statistics:
        return [
            (tf.convert_to_tensor(layer.moving_mean), tf.convert_to_tensor(layer.moving_variance))
            for layer in batch_norms(self.model)
        ]

    def _average(
        self,
        images: Any,
        labels: Any,
        steps: Any,
        start: Any,
        stop: Any,
        averages: Statistics,
        shift: Any,
        scale: Any,
    ) -> Any:
        momenta = tf.constant(MOMENTA)[:, None]

        def step(index: Any, total: Any, averages: Any) -> Any:
            size = steps.shape[1]
            measured = tf.stack(self._train(size, images, labels, steps[index], shift, scale))
            averages = tf.nest.map_structure(
                lambda average, now: momenta * average + (1 - momenta) * now,
                averages,
                self._moving(),
            )
            return index + 1, total + measured, averages

        _, total, averages = tf.while_loop(
            lambda index, *_: index < stop, step, (start, tf.zeros(2), averages)
        )
        loss, accuracy = tf.unstack(total / tf.cast(stop - start, tf.float32))
        return loss, accuracy, averages

    def _in_training(self, images: Any, batches: Any, shift: Any, scale: Any) -> Any:
        def predict(indices: Any) -> Any:
            with keras.StatelessScope():
                return self.model(single._batch(images, indices, shift, scale), training=True)

        outputs = tf.map_fn(predict, batches, fn_output_signature=tf.float32)
        return tf.reshape(outputs, (-1, outputs.shape[-1]))[: images.shape[0]]

    def _compare(
        self,
        images: Any,
        labels: Any,
        noisy: Any,
        source: Any,
        sample: Any,
        kinds: list[Statistics],
        shift: Any,
        scale: Any,
    ) -> dict[str, Any]:
        def feed(indices: Any) -> Any:
            return single._batch(source, tf.gather(sample, indices), shift, scale)

        for used in (*_counts(sample.shape[0]), min(single.POPULATION, sample.shape[0])):
            kinds = [*kinds, population_statistics(self.model, feed, used)]
        inputs = single._batch(images, tf.range(labels.shape[0]), shift, scale)
        mean, variance = kinds[-1][0]
        rows = []
        for kind in kinds:
            outputs = with_statistics(self.model, inputs, kind)  # XLA does what they share once
            losses = keras.losses.sparse_categorical_crossentropy(labels, outputs)
            row = {
                "loss": tf.reduce_mean(losses),
                "accuracy": single._hits(labels, outputs) / labels.shape[0],
                "kl": tf.reduce_mean(keras.losses.kl_divergence(noisy, outputs)),
                "distance": tf.norm(kind[0][0] - mean) / tf.norm(mean),
                "ratio": tf.reduce_mean(kind[0][1] / variance),
            }
            rows.append(row)
        return {
            "batch": single._hits(labels, noisy) / labels.shape[0],
            **{key: tf.stack([row[key] for row in rows]) for key in rows[0]},
        }


def _counts(count: int) -> list[int]:
    return [used for used in COUNTS if used < count]


def _averaging(recipe: Recipe, shape: tuple[int, ...], classes: int) -> _Averaging:
    # a moving average without memory is the last batch's own statistic
    options = {**recipe.norm_options, "momentum": 0.0}
    return _averaging_program(*single.signature(recipe.but(norm_options=options)), shape, classes)


@functools.lru_cache(maxsize=1)
def _averaging_program(*args: Any) -> _Averaging:
    return _Averaging(*args)


def gradients(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Measure the gradient in every hidden layer of a network before any training.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`; but nothing is trained, whatever ``epochs`` says.

    Returns
    -------
    dict of str to list of float
        One value each. ``gradient/0`` …: `bn_tutorial.engines.probes.gradient_norms` of the first batch
        of an epoch. ``loss`` and ``accuracy``: on that batch, in training mode. ``val_loss`` and
        ``val_accuracy``: on the validation images (the test images if none are held out), in
        inference mode.
    """
    model = build(recipe, seed, shape=data.x_train.shape[1:], classes=len(data.classes))
    train, validation, _ = single._resident(data, recipe.train_size, recipe.validation)
    first = single.epoch_order(seed, 0, len(train[1]))[: recipe.batch_size]
    pixels = single.scaling(recipe, data)
    inputs, targets = single._batch(train[0], first, *pixels), tf.gather(train[1], first)
    norms = gradient_norms(model, inputs, targets)
    everything = single._batch(validation[0], tf.range(len(validation[1])), *pixels)
    history = {
        **{f"gradient/{layer}": norm for layer, norm in enumerate(norms)},
        **_outcome(model, inputs, targets, training=True),
        **{
            f"val_{name}": value
            for name, value in _outcome(model, everything, validation[1], training=False).items()
        },
    }
    on_epoch()
    return {name: [float(value)] for name, value in history.items()}


def _outcome(model: keras.Model, inputs: Any, targets: Any, training: bool) -> dict[str, Any]:
    with keras.StatelessScope():
        outputs = model(inputs, training=training)
    losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
    accuracy = single._hits(targets, outputs) / len(targets)
    return {"loss": tf.reduce_mean(losses), "accuracy": accuracy}
