"""What engines are made of: compiled programs.

A Python loop that hands one batch after another to Keras spends most of its time outside the
matrix products. Here a whole epoch is one TensorFlow function: the images stay on the device as
bytes, and each step gathers its batch, scales it, and updates the weights.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.engines.batches import batch, hits
from bn_tutorial.networks.backend import GPUS, keras, tf
from bn_tutorial.networks.models import build, initial_values
from bn_tutorial.networks.statistics import (
    Statistics,
    even_batch,
    population_statistics,
    sum_over_batches,
    with_statistics,
)
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.recipe.tables import OPTIMISERS

#: Images of the training set from which population statistics are computed.
POPULATION = 10_000

#: Images that are scored together, so that no more than one size is compiled.
PART = 500

#: Steps from which on a run is worth the seconds that XLA takes to compile it.
WORTH_COMPILING = 150

#: Images and labels on the device.
Images = tuple[Any, Any]
#: Takes the model, a batch, its targets and the learning rate; returns scalars and vectors.
Probe = Callable[[Any, Any, Any, Any], Mapping[str, Any]]


class Program:
    """One architecture and its compiled functions, for any seed and learning rate.

    Parameters
    ----------
    recipe : Recipe
        As `program_key` returns it.
    jit : bool
        Whether XLA compiles the functions.
    shape : tuple of int
        Shape of an image.
    classes : int
        Number of classes.

    Attributes
    ----------
    model : keras.Model
        The network; training changes it.
    variables : list of keras.Variable
        Which of its variables the optimiser changes: those that `trainable` returns.
    train : callable
        Given the size of a batch, returns the compiled `epoch` in batches of that size, without
        that argument.
    statistics, evaluate : callable
        Compiled: population statistics for ``(images, pixel_mean, pixel_std)``, and what `score`
        sums up.
    probe : callable
        Given a `Probe`, returns it compiled, for ``(images, labels, indices, pixel_mean, pixel_std)``.
    """

    def __init__(self, recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int) -> None:
        self.model = build(recipe, shape=shape, classes=classes)
        self.decay = tf.Variable(0.0)  # not a constant: one program serves all decays
        self.variables = self.trainable()
        self.optimizer = optimiser(recipe, self.decay, self.variables)
        self.fresh = [
            (one, one.numpy()) for one in (*self.model.variables, *self.optimizer.variables)
        ]
        self.jit = jit
        self.statistics = self.compile(self._statistics)
        self.evaluate = self.compile(self._evaluate)
        self.train = functools.cache(self._train)
        self.probe = functools.cache(self._probe)

    def trainable(self) -> list[Any]:
        """Return the variables that training changes."""
        return list(self.model.trainable_variables)

    def affine(self) -> list[Any]:
        """Return the γ and β of all layers."""
        return [one for one in self.model.trainable_variables if one.name in ("gamma", "beta")]

    def values(self) -> list[Any]:
        """Return the values of all variables of the model."""
        return [one.numpy() for one in self.model.variables]

    def load(self, values: list[Any]) -> None:
        """Give all variables of the model these values."""
        for variable, value in zip(self.model.variables, values, strict=True):
            variable.assign(value)

    def step(self, gradients: list[Any]) -> None:
        """Change the variables, given the gradients of the loss."""
        self.optimizer.apply(gradients, self.variables)

    def compile(self, function: Callable[..., Any]) -> Any:
        """Return a function compiled as this program is."""
        # a partial object of its own, or TensorFlow would take several programs for one
        # function that is traced again and again, and warn
        return tf.function(functools.partial(function), jit_compile=self.jit, autograph=False)

    def start(self, recipe: Recipe, seed: int) -> None:
        """Put the model and the optimiser into the state in which a run begins."""
        for variable, value in (*self.fresh, *initial_values(recipe, seed, self.model)):
            variable.assign(value)
        self.optimizer.learning_rate = recipe.learning_rate
        self.decay.assign(recipe.weight_decay)

    def _train(self, batch_size: int) -> Any:
        return self.compile(functools.partial(self.epoch, batch_size))

    def _probe(self, probe: Probe) -> Any:
        def measure(images: Any, labels: Any, indices: Any, *pixels: Any) -> Any:
            inputs, targets = batch(images, indices, *pixels), tf.gather(labels, indices)
            return probe(self.model, inputs, targets, self.optimizer.learning_rate)

        return self.compile(measure)

    def epoch(
        self, batch_size: int, images: Any, labels: Any, order: Any, pixel_mean: Any, pixel_std: Any
    ) -> tuple[Any, Any]:
        """Train on the images in that order; return the mean loss and the accuracy on the way."""

        def step(indices: Any) -> Any:
            inputs = batch(images, indices, pixel_mean, pixel_std)
            targets = tf.gather(labels, indices)
            with tf.GradientTape() as tape:
                outputs = self.model(inputs, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                loss = tf.reduce_mean(losses)
            self.step(tape.gradient(loss, self.variables))
            return tf.reduce_sum(losses), hits(targets, outputs)

        total, right = sum_over_batches(step, (0.0, 0.0), order, batch_size)
        return total / order.shape[0], right / order.shape[0]

    def _statistics(self, images: Any, pixel_mean: Any, pixel_std: Any) -> Statistics:
        return population_statistics(
            self.model,
            lambda indices: batch(images, indices, pixel_mean, pixel_std),
            min(POPULATION, images.shape[0]),
        )

    def _evaluate(
        self, images: Any, labels: Any, pixel_mean: Any, pixel_std: Any, statistics: Statistics
    ) -> Any:
        def predict(inputs: Any) -> list[Any]:
            moving = self.model(inputs, training=False)
            if not statistics:
                return [moving, moving]
            return [moving, with_statistics(self.model, inputs, statistics)]

        def step(indices: Any) -> Any:
            inputs = batch(images, indices, pixel_mean, pixel_std)
            targets = tf.gather(labels, indices)
            sums = []
            for outputs in predict(inputs):  # XLA does what they share once
                losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
                sums += [tf.reduce_sum(losses), hits(targets, outputs)]
            return sums

        count = labels.shape[0]
        return sum_over_batches(step, [0.0] * 4, tf.range(count), even_batch(count))

    def score(
        self, data: Images, pixels: tuple[Any, Any], statistics: Statistics
    ) -> npt.NDArray[np.float64]:
        """Return loss and accuracy with moving statistics, and both with `statistics`.

        Returns
        -------
        numpy.ndarray, shape (parts, 4)
            A row for each `PART` images, or one for all if they cannot be divided so.
        """
        images, labels = data
        size = PART if len(labels) % PART == 0 else len(labels)
        parts = [slice(start, start + size) for start in range(0, len(labels), size)]
        sums = [self.evaluate(images[one], labels[one], *pixels, statistics) for one in parts]
        return np.array(sums, float) / size


def optimiser(recipe: Recipe, decay: Any, variables: list[Any]) -> keras.optimizers.Optimizer:
    """Return a recipe's optimiser, built for these variables; kernels alone decay, by `decay`."""
    made = keras.optimizers.get(recipe.optimizer)
    if recipe.weight_decay or OPTIMISERS[recipe.optimizer].decays:
        made.weight_decay = decay
        made.exclude_from_weight_decay([one for one in variables if "kernel" not in one.name])
    made.build(variables)
    return made


def suits_xla(recipe: Recipe) -> bool:
    """Return whether XLA makes a network faster.

    On a CPU, it does so for dense and recurrent ones, and makes convolutions many times slower.
    """
    return bool(GPUS) or recipe.model != "cnn"


def program_key(recipe: Recipe) -> tuple[Recipe, bool]:
    """Return the fields that change the compiled program, and whether XLA compiles it.

    The fields are those of the recipe that is returned; all others have a common value in it.
    """
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
    decays = OPTIMISERS[recipe.optimizer].decays
    same["weight_decay"] = float(recipe.weight_decay > 0 and not decays)
    return recipe.but(**same), suits_xla(recipe) and steps >= WORTH_COMPILING
