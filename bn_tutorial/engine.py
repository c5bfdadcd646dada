"""One run: a compiled epoch over data that stays on the device.

A Python loop that hands one batch after another to Keras spends most of its time outside
the matrix products. Here a whole epoch is one TensorFlow function: the images stay on
the device as bytes, and each step gathers its batch, scales it, and updates the weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.backend import GPUS, keras, tf
from bn_tutorial.dataset import Dataset
from bn_tutorial.models import build
from bn_tutorial.probes import batch_norms, population_statistics, sum_over_batches, with_statistics
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

#: Images of the training set from which population statistics are computed.
POPULATION = 10_000

History = dict[str, list[float]]


def fit(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
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

    Returns
    -------
    dict of str to list of float
        The `METRICS` after each epoch: ``loss`` and ``accuracy`` are averages over the epoch
        in training mode, as Keras reports them; ``val_loss`` and ``val_accuracy`` are measured
        on the test images in inference mode with the moving statistics;
        ``val_loss_population`` and ``val_accuracy_population`` likewise with population
        statistics, computed anew and then forgotten. A loss that is no longer finite ends
        the training there.
    """
    program = _program(*_signature(recipe), data.x_train.shape[1:], len(data.classes))
    train, test = _resident(data, recipe.train_size)
    pixels = scaling(recipe, data)
    program.start(recipe, seed)
    history: History = {name: [] for name in METRICS}
    for epoch in range(recipe.epochs):
        order = epoch_order(seed, epoch, len(train[1]))
        values = [*program.train(*train, order, *pixels), *program.evaluate(*train, *test, *pixels)]
        for name, value in zip(METRICS, values, strict=True):
            history[name].append(float(value))
        on_epoch()
        if not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss")):
            break
    return history


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """Return the order in which an epoch (from 0) visits the images, shape (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


def scaling(recipe: Recipe, data: Dataset) -> tuple[Any, Any]:
    """Return what pixels are shifted and then divided by, each of shape (colours,), float32.

    Parameters
    ----------
    recipe : Recipe
        Its ``inputs`` and ``train_size`` decide.
    data : Dataset
        The images; statistics are of the training images that the recipe uses.
    """
    if recipe.inputs == "unit":
        colours = data.x_train.shape[-1]
        return np.zeros(colours, np.float32), np.full(colours, 255.0, np.float32)
    return _pixel_statistics(data, recipe.train_size)


class _Program:
    """One architecture and its compiled functions, for any seed and learning rate."""

    def __init__(self, recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int) -> None:
        self.model = build(recipe, shape=shape, classes=classes)
        self.optimizer = keras.optimizers.get(recipe.optimizer)
        self.optimizer.build(self.model.trainable_variables)
        self.fresh = [variable.numpy() for variable in self.optimizer.variables]
        self.batch_size = recipe.batch_size
        # a partial object of their own, or TensorFlow would take several programs for one
        # function that is traced again and again, and warn
        self.train = tf.function(functools.partial(self._train), jit_compile=jit, autograph=False)
        self.evaluate = tf.function(
            functools.partial(self._evaluate), jit_compile=jit, autograph=False
        )

    def start(self, recipe: Recipe, seed: int) -> None:
        """Put the model and the optimiser into the state in which a run begins."""
        shape, classes = self.model.input_shape[1:], self.model.output_shape[-1]
        initial = build(recipe, seed, shape=shape, classes=classes)
        for variable, value in zip(self.model.variables, initial.variables, strict=True):
            variable.assign(value)
        for variable, value in zip(self.optimizer.variables, self.fresh, strict=True):
            variable.assign(value)
        self.optimizer.learning_rate = recipe.learning_rate

    def _train(self, images: Any, labels: Any, order: Any, shift: Any, scale: Any) -> Any:
        def step(indices: Any) -> Any:
            inputs, targets = _batch(images, indices, shift, scale), tf.gather(labels, indices)
            with tf.GradientTape() as tape:
                outputs = self.model(inputs, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                loss = tf.reduce_mean(losses)
            variables = self.model.trainable_variables
            self.optimizer.apply(tape.gradient(loss, variables), variables)
            return tf.reduce_sum(losses), _hits(targets, outputs)

        total, hits = sum_over_batches(step, (0.0, 0.0), order, self.batch_size)
        return total / order.shape[0], hits / order.shape[0]

    def _evaluate(
        self, images: Any, labels: Any, x_test: Any, y_test: Any, shift: Any, scale: Any
    ) -> Any:
        def predict(inputs: Any) -> list[Any]:
            moving = self.model(inputs, training=False)
            if not batch_norms(self.model):
                return [moving, moving]
            return [moving, with_statistics(self.model, inputs, statistics)]

        def step(indices: Any) -> Any:
            inputs, targets = _batch(x_test, indices, shift, scale), tf.gather(y_test, indices)
            sums = []
            for outputs in predict(inputs):  # XLA does what they share once
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                sums += [tf.reduce_sum(losses), _hits(targets, outputs)]
            return sums

        statistics = population_statistics(
            self.model,
            lambda indices: _batch(images, indices, shift, scale),
            min(POPULATION, labels.shape[0]),
        )
        count = y_test.shape[0]
        sums = sum_over_batches(step, [0.0] * 4, tf.range(count), min(1000, count))
        return [total / count for total in sums]


def _batch(images: Any, indices: Any, shift: Any, scale: Any) -> Any:
    return (tf.cast(tf.gather(images, indices), tf.float32) - shift) / scale


def _hits(targets: Any, outputs: Any) -> Any:
    best = tf.argmax(outputs, axis=-1, output_type=targets.dtype)
    return tf.reduce_sum(tf.cast(best == targets, tf.float32))


def _signature(recipe: Recipe) -> tuple[Recipe, bool]:
    """Return the recipe without what changes no compiled code, and whether XLA compiles it.

    On a CPU, XLA is faster for dense networks and many times slower for convolutions.
    """
    blank = Recipe()
    same = {
        name: getattr(blank, name)
        for name in ("initializer", "init_scale", "inputs", "learning_rate", "epochs", "train_size")
    }
    return recipe.but(**same), bool(GPUS) or recipe.model == "mlp"


@functools.lru_cache(maxsize=2)
def _program(recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int) -> _Program:
    return _Program(recipe, jit, shape, classes)


@functools.lru_cache(maxsize=1)
def _resident(data: Dataset, train_size: int | None) -> tuple[Any, Any]:
    """Return the training and the test arrays, each (images, labels), on the device."""
    used = data if train_size is None else data.subset(train_size)
    return (
        (tf.constant(used.x_train), tf.constant(used.y_train)),
        (tf.constant(used.x_test), tf.constant(used.y_test)),
    )


@functools.lru_cache(maxsize=1)
def _pixel_statistics(data: Dataset, train_size: int | None) -> tuple[Any, Any]:
    """Return mean and standard deviation per colour, without a float copy of all images."""
    images = (data if train_size is None else data.subset(train_size)).x_train
    sums = np.zeros((2, images.shape[-1]))
    for start in range(0, len(images), 1000):
        pixels = images[start : start + 1000].reshape(-1, images.shape[-1]).astype(np.float64)
        sums += [pixels.sum(axis=0), np.square(pixels).sum(axis=0)]
    mean, square = sums / (images.size / images.shape[-1])
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return mean.astype(np.float32), spread.astype(np.float32)
