"""One run: a compiled epoch over data that stays on the device.

A Python loop that hands one batch after another to Keras spends most of its time outside
the matrix products. Here a whole epoch is one TensorFlow function: the images stay on
the device as bytes, and each step gathers its batch, scales it, and updates the weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks.backend import GPUS, keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import (
    Statistics,
    even_batch,
    population_statistics,
    sum_over_batches,
    with_statistics,
)
from bn_tutorial.recipe import Recipe

#: What is measured after each epoch.
METRICS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_loss_population",
    "val_accuracy_population",
)

#: What is measured besides if some training images are held out: in inference mode with
#: population statistics on training images (after each epoch), and on the test images (once).
FIT_METRICS = ("fit_loss", "fit_accuracy")
TEST_METRICS = ("test_loss", "test_accuracy", "test_loss_population", "test_accuracy_population")

#: Images of the training set from which population statistics are computed.
POPULATION = 10_000

#: Steps from which on a run is worth the seconds that XLA takes to compile it.
WORTH_COMPILING = 150

History = dict[str, list[float]]
#: Takes the model, a batch, its targets and the learning rate; returns scalars and vectors.
Probe = Callable[[Any, Any, Any, Any], Mapping[str, Any]]


def fit(
    recipe: Recipe,
    data: Dataset,
    seed: int,
    on_epoch: Callable[[], object] = lambda: None,
    probe: Probe | None = None,
) -> History:
    """Train one network.

    Parameters
    ----------
    recipe : Recipe
        What to train.
    data : Dataset
        The images; ``recipe.train_size`` of the training ones are used.
    seed : int
        Fixes the initial weights, the order of the images and the dropout stream.
    on_epoch : callable
        Is called after each epoch.
    probe : callable, optional
        What else to measure after each epoch. It is given the model, the batch that would be
        next (shape (batch size, rows, columns, colours)), its targets and the learning rate, and
        is compiled; the values of a vector are kept as ``name/0``, ``name/1`` and so on.

    Returns
    -------
    dict of str to list of float
        The `METRICS` after each epoch: ``loss`` and ``accuracy`` are averages over the epoch
        in training mode, as Keras reports them; ``val_loss`` and ``val_accuracy`` are measured
        on the test images in inference mode with the moving statistics;
        ``val_loss_population`` and ``val_accuracy_population`` likewise with population
        statistics, computed anew and then forgotten. If the recipe holds out validation
        images, these are measured on them, and there are `FIT_METRICS` and, after the last
        epoch, `TEST_METRICS`, too. A loss that is no longer finite ends the training there.
    """
    shape, classes = data.x_train.shape[1:], len(data.classes)
    program = _program(*signature(recipe), shape, classes)
    train, validation, test = _resident(data, recipe.train_size, recipe.validation)
    pixels = scaling(recipe, data)
    program.start(recipe, seed)
    run_epoch = program.train(recipe.batch_size)
    history: History = {}

    def note(**values: Any) -> None:
        for name, value in values.items():
            history.setdefault(name, []).append(float(value))

    for epoch in range(recipe.epochs):
        order = epoch_order(seed, epoch, len(train[1]))
        note(**dict(zip(METRICS, run_epoch(*train, order, *pixels), strict=False)))
        statistics = program.statistics(train[0], *pixels)
        values = program.score(validation, pixels, statistics)
        note(**dict(zip(METRICS[2:], values, strict=True)))
        if recipe.validation:
            part = [array[: recipe.validation] for array in train]
            values = program.score(part, pixels, statistics)[2:]
            note(**dict(zip(FIT_METRICS, values, strict=True)))
        if probe:
            batch = epoch_order(seed, epoch + 1, len(train[1]))[: recipe.batch_size]
            for name, value in program.probe(probe)(*train, batch, *pixels).items():
                value = value.numpy()
                parts = {name: value} if value.ndim == 0 else _numbered(name, value)
                note(**parts)
        on_epoch()
        if not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss")):
            break
    if test is not None:
        values = program.score(test, pixels, statistics, len(validation[1]))
        note(**dict(zip(TEST_METRICS, values, strict=True)))
    return history


def _numbered(name: str, values: Any) -> dict[str, float]:
    return {f"{name}/{index}": value for index, value in enumerate(values)}


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """Return the order in which an epoch (from 0) visits the images, shape (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


def scaling(recipe: Recipe, data: Dataset) -> tuple[Any, Any]:
    """Return what pixels are shifted and then divided by, each of shape (colours,), float32.

    Parameters
    ----------
    recipe : Recipe
        Its ``inputs``, ``train_size`` and ``validation`` decide.
    data : Dataset
        The images; statistics are of the training images that the recipe uses.
    """
    if recipe.inputs == "unit":
        colours = data.x_train.shape[-1]
        return np.zeros(colours, np.float32), np.full(colours, 255.0, np.float32)
    return _pixel_statistics(data, recipe.train_size, recipe.validation)


class _Program:
    """One architecture and its compiled functions, for any seed and learning rate."""

    def __init__(self, recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int) -> None:
        self.model = build(recipe, shape=shape, classes=classes)
        self.optimizer = keras.optimizers.get(recipe.optimizer)
        self.decay = tf.Variable(0.0)  # not a constant: one program serves all decays
        variables = self.model.trainable_variables
        if recipe.weight_decay or recipe.optimizer == "adamw":  # which has one by default
            others = [variable for variable in variables if "kernel" not in variable.name]
            self.optimizer.weight_decay = self.decay
            self.optimizer.exclude_from_weight_decay(others)
        self.optimizer.build(variables)
        self.fresh = [variable.numpy() for variable in self.optimizer.variables]
        self.jit = jit
        self.statistics = self._compiled(self._statistics)
        self.evaluate = self._compiled(self._evaluate)
        self.train = functools.cache(self._train_with)
        self.probe = functools.cache(self._probe_with)

    def _compiled(self, function: Callable[..., Any]) -> Any:
        # a partial object of its own, or TensorFlow would take several programs for one
        # function that is traced again and again, and warn
        return tf.function(functools.partial(function), jit_compile=self.jit, autograph=False)

    def _train_with(self, batch_size: int) -> Any:
        """Return the compiled epoch in batches of that size."""
        return self._compiled(functools.partial(self._train, batch_size))

    def _probe_with(self, probe: Probe) -> Any:
        """Return a compiled probe."""

        def measure(images: Any, labels: Any, batch: Any, shift: Any, scale: Any) -> Any:
            inputs, targets = _batch(images, batch, shift, scale), tf.gather(labels, batch)
            return probe(self.model, inputs, targets, self.optimizer.learning_rate)

        return self._compiled(measure)

    def start(self, recipe: Recipe, seed: int) -> None:
        """Put the model and the optimiser into the state in which a run begins."""
        shape, classes = self.model.input_shape[1:], self.model.output_shape[-1]
        initial = build(recipe, seed, shape=shape, classes=classes)
        for variable, value in zip(self.model.variables, initial.variables, strict=True):
            variable.assign(value)
        for variable, value in zip(self.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = recipe.learning_rate
        self.decay.assign(recipe.weight_decay)

    def _train(
        self, batch_size: int, images: Any, labels: Any, order: Any, shift: Any, scale: Any
    ) -> Any:
        def step(indices: Any) -> Any:
            inputs, targets = _batch(images, indices, shift, scale), tf.gather(labels, indices)
            with tf.GradientTape() as tape:
                outputs = self.model(inputs, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                loss = tf.reduce_mean(losses)
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return tf.reduce_sum(losses), _hits(targets, outputs)

        total, hits = sum_over_batches(step, (0.0, 0.0), order, batch_size)
        return total / order.shape[0], hits / order.shape[0]

    def _statistics(self, images: Any, shift: Any, scale: Any) -> Statistics:
        return population_statistics(
            self.model,
            lambda indices: _batch(images, indices, shift, scale),
            min(POPULATION, images.shape[0]),
        )

    def _evaluate(
        self, images: Any, labels: Any, shift: Any, scale: Any, statistics: Statistics
    ) -> Any:
        def predict(inputs: Any) -> list[Any]:
            moving = self.model(inputs, training=False)
            if not statistics:
                return [moving, moving]
            return [moving, with_statistics(self.model, inputs, statistics)]

        def step(indices: Any) -> Any:
            inputs, targets = _batch(images, indices, shift, scale), tf.gather(labels, indices)
            sums = []
            for outputs in predict(inputs):  # XLA does what they share once
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                sums += [tf.reduce_sum(losses), _hits(targets, outputs)]
            return sums

        count = labels.shape[0]
        return sum_over_batches(step, [0.0] * 4, tf.range(count), even_batch(count))

    def score(
        self, data: Any, pixels: Any, statistics: Statistics, chunk: int | None = None
    ) -> list[float]:
        """Return loss and accuracy with moving statistics, and both with `statistics`.

        Chunks of a size that was evaluated before need no new compilation.
        """
        images, labels = data
        sums = np.zeros(4)
        for start in range(0, len(labels), chunk or len(labels)):
            part = slice(start, start + (chunk or len(labels)))
            sums += [
                float(value)
                for value in self.evaluate(images[part], labels[part], *pixels, statistics)
            ]
        return list(sums / len(labels))


def _batch(images: Any, indices: Any, shift: Any, scale: Any) -> Any:
    return (tf.cast(tf.gather(images, indices), tf.float32) - shift) / scale


def _hits(targets: Any, outputs: Any) -> Any:
    best = tf.argmax(outputs, axis=-1, output_type=targets.dtype)
    return tf.reduce_sum(tf.cast(best == targets, tf.float32))


def suits_xla(recipe: Recipe) -> bool:
    """Return whether XLA makes a network faster.

    On a CPU, it does so for dense and recurrent networks, and makes convolutions many times
    slower.
    """
    return bool(GPUS) or recipe.model != "cnn"


def signature(recipe: Recipe) -> tuple[Recipe, bool]:
    """Return the recipe without what changes no compiled code, and whether XLA compiles it."""
    steps = recipe.epochs * (recipe.train_size or math.inf) / recipe.batch_size
    blank = Recipe()
    same = {
        name: getattr(blank, name)
        for name in (
            *("initializer", "init_scale", "inputs", "learning_rate", "epochs"),
            *("train_size", "validation"),
        )
    }
    same["batch_size"] = recipe.norm_options.get("size", blank.batch_size)  # ghosts must fit
    same["weight_decay"] = float(recipe.weight_decay > 0 and recipe.optimizer != "adamw")
    return recipe.but(**same), suits_xla(recipe) and steps >= WORTH_COMPILING


@functools.lru_cache(maxsize=2)
def _program(recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int) -> _Program:
    return _Program(recipe, jit, shape, classes)


@functools.lru_cache(maxsize=1)
def _resident(data: Dataset, train_size: int | None, validation: int) -> tuple[Any, Any, Any]:
    """Return, each as (images, labels) on the device, what to train, validate and test on.

    Without a held-out part, validation is on the test images, and there are no others.
    """
    used = _used(data, train_size, validation)
    parts = [(used.x_train, used.y_train), (used.x_test, used.y_test)]
    if validation:
        parts.append((data.x_test, data.y_test))
    on_device = [tuple(map(tf.constant, part)) for part in parts]
    return on_device[0], on_device[1], on_device[2] if validation else None


@functools.lru_cache(maxsize=1)
def _pixel_statistics(data: Dataset, train_size: int | None, validation: int) -> tuple[Any, Any]:
    """Return mean and standard deviation per colour, without a float copy of all images."""
    images = _used(data, train_size, validation).x_train
    sums = np.zeros((2, images.shape[-1]))
    for start in range(0, len(images), 1000):
        pixels = images[start : start + 1000].reshape(-1, images.shape[-1]).astype(np.float64)
        sums += [pixels.sum(axis=0), np.square(pixels).sum(axis=0)]
    mean, square = sums / (images.size / images.shape[-1])
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return mean.astype(np.float32), spread.astype(np.float32)


def _used(data: Dataset, train_size: int | None, validation: int) -> Dataset:
    if validation:
        data = data.holdout(validation)
    return data if train_size is None else data.subset(train_size)
