"""An engine that compares the averages that could stand in for a batch's statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.engines.batches import batch, epoch_order, hits
from bn_tutorial.engines.program import POPULATION, Program
from bn_tutorial.engines.rows import Row
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.statistics import (
    Statistics,
    batch_norms,
    population_statistics,
    with_statistics,
)
from bn_tutorial.recipe.recipes import Recipe

#: Momenta of the averages that are kept.
MOMENTA = (0.9, 0.99, 0.999)
#: Images over which `compare` averages besides all that there are.
COUNTS = (100, 1_000)
#: How often `compare` measures.
POINTS = 12


def compare(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train, and compare the averages that could stand in for a batch's statistics.

    Averages do not influence training, so those of several kinds are kept beside each other in
    one run. At `POINTS` steps, spread evenly over the logarithm of their number, the network
    predicts in inference mode with each of them, and in training mode. Epochs have no
    smaller last batch here: the images left over are skipped.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`, with ``norm="batch"``. A momentum in ``norm_options``
        has no effect.

    Yields
    ------
    dict of str to float
        A row for each point. ``step``: steps so far. ``loss``, ``accuracy``: in training,
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
    program = averaging(bench, recipe)
    train, validation, _ = bench.resident(recipe, seed)
    pixels = bench.pixel_statistics(recipe, seed)
    program.start(recipe, seed)
    size, count = recipe.batch_size, len(train[1])
    orders = [epoch_order(seed, epoch, count) for epoch in range(recipe.epochs + 1)]
    whole = count // size * size
    steps = np.concatenate([order[:whole] for order in orders[:-1]]).reshape(-1, size)
    seen = _filled_up(len(validation[1]), size)
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
        yield {name: float(value) for name, value in row.items()}
        done = stop


def averaging(bench: Workbench, recipe: Recipe) -> Averaging:
    """Return the program that `compare` uses for a recipe.

    Raises
    ------
    ValueError
        If the recipe has no batch normalisation.
    """
    if recipe.norm != "batch":
        raise ValueError(f"norm={recipe.norm!r} is impossible here: it must be 'batch'.")
    # a moving average without memory is the last batch's own statistic
    options = {**recipe.norm_options, "momentum": 0.0}
    return bench.program_of(Averaging, recipe.but(norm_options=options))


def _filled_up(count: int, size: int) -> npt.NDArray[np.int32]:
    """Return the images' indices in batches; the last is filled up with the first images."""
    indices = np.arange(count, dtype=np.int32)
    return np.resize(indices, (-(-count // size), size))


class Averaging(Program):
    """A program that trains from step to step, and keeps averages beside the network."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.average = self.compile(self._average)
        self.in_training = self.compile(self._in_training)
        self.compare = self.compile(self._compare)

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
        pixel_mean: Any,
        pixel_std: Any,
    ) -> Any:
        momenta = tf.constant(MOMENTA)[:, None]

        def step(index: Any, total: Any, averages: Any) -> Any:
            size = steps.shape[1]
            measured = tf.stack(
                self.epoch(size, images, labels, steps[index], pixel_mean, pixel_std)
            )
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

    def _in_training(self, images: Any, batches: Any, pixel_mean: Any, pixel_std: Any) -> Any:
        def predict(indices: Any) -> Any:
            with keras.StatelessScope():
                return self.model(batch(images, indices, pixel_mean, pixel_std), training=True)

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
        pixel_mean: Any,
        pixel_std: Any,
    ) -> dict[str, Any]:
        def feed(indices: Any) -> Any:
            return batch(source, tf.gather(sample, indices), pixel_mean, pixel_std)

        for used in (*_counts(sample.shape[0]), min(POPULATION, sample.shape[0])):
            kinds = [*kinds, population_statistics(self.model, feed, used)]
        inputs = batch(images, tf.range(labels.shape[0]), pixel_mean, pixel_std)
        mean, variance = kinds[-1][0]
        rows = []
        for kind in kinds:
            outputs = with_statistics(self.model, inputs, kind)  # XLA does what they share once
            losses = keras.losses.sparse_categorical_crossentropy(labels, outputs)
            row = {
                "loss": tf.reduce_mean(losses),
                "accuracy": hits(labels, outputs) / labels.shape[0],
                "kl": tf.reduce_mean(keras.losses.kl_divergence(noisy, outputs)),
                "distance": tf.norm(kind[0][0] - mean) / tf.norm(mean),
                "ratio": tf.reduce_mean(kind[0][1] / variance),
            }
            rows.append(row)
        return {
            "batch": hits(labels, noisy) / labels.shape[0],
            **{key: tf.stack([row[key] for row in rows]) for key in rows[0]},
        }


def _counts(count: int) -> list[int]:
    return [used for used in COUNTS if used < count]
