"""Several seeds of one recipe in one compiled program.

A step of a small dense network is little work for a GPU, so the networks of all seeds take each
step together here: every variable is stacked along a leading axis of seeds, the forward pass is
mapped over that axis, and the optimiser, which treats each number by itself, updates the whole
stack. What is measured after an epoch, in large batches, is measured network by network by the
functions of `bn_tutorial.engines.single`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single
from bn_tutorial.engines.single import FIT_METRICS, METRICS, TEST_METRICS, History
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.statistics import sum_over_batches
from bn_tutorial.recipe import Recipe


def suits(recipe: Recipe) -> bool:
    """Return whether a recipe can be trained in lockstep.

    Parameters
    ----------
    recipe : Recipe
        What to train.

    Returns
    -------
    bool
        True for a dense network that draws nothing at random in training: without dropout, and
        with any normaliser but ``"noisy"``. TensorFlow would make random draws network
        by network.
    """
    return recipe.model == "mlp" and not recipe.dropout and recipe.norm != "noisy"


def fit(
    recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object] = lambda: None
) -> History:
    """Train one network as `fit_together` does.

    Parameters
    ----------
    recipe, data, seed, on_epoch
        As in `bn_tutorial.engines.single.fit`.

    Returns
    -------
    dict of str to list of float
        What `bn_tutorial.engines.single.fit` returns.

    Raises
    ------
    ValueError
        If the recipe does not suit.
    """
    (history,) = fit_together(recipe, data, [seed], on_epoch)
    return history


def fit_together(
    recipe: Recipe,
    data: Dataset,
    seeds: Sequence[int],
    on_epoch: Callable[[], object] = lambda: None,
) -> list[History]:
    """Train one network for each seed, all of them step by step together.

    Each network has the initial weights and the order of the images that it has in
    `bn_tutorial.engines.single.fit`; only sums are taken in another order.

    Parameters
    ----------
    recipe : Recipe
        What to train; it must suit (`suits`).
    data : Dataset
        The images.
    seeds : sequence of int
        One for each network.
    on_epoch : callable
        Is called after each epoch of each network.

    Returns
    -------
    list of dict of str to list of float
        For each seed what `bn_tutorial.engines.single.fit` returns. The history of a network whose loss
        is no longer finite ends there, and the others go on.

    Raises
    ------
    ValueError
        If the recipe does not suit.
    """
    if not suits(recipe):
        raise ValueError(
            f"{recipe.label!r} cannot be trained in lockstep, which takes model 'mlp' without "
            "dropout and noise: train it with bn_tutorial.engines.single.fit."
        )
    shape, classes = data.x_train.shape[1:], len(data.classes)
    program = _program(*single.signature(recipe), shape, classes, len(seeds))
    train, validation, test = single._resident(data, recipe.train_size, recipe.validation)
    held_in = [array[: recipe.validation] for array in train]
    pixels = single.scaling(recipe, data)
    program.start_all(recipe, seeds)
    run_epoch = program.train(recipe.batch_size)
    histories: list[History] = [{} for _ in seeds]
    going = list(range(len(seeds)))
    for epoch in range(recipe.epochs):
        orders = [single.epoch_order(seed, epoch, len(train[1])) for seed in seeds]
        losses, accuracies = run_epoch(*train, np.stack(orders, axis=1), *pixels)
        for place in tuple(going):
            history = histories[place]
            program.look_at(place)
            statistics = program.statistics(train[0], *pixels)
            values = program.score(validation, pixels, statistics)
            _note(history, METRICS, (losses[place], accuracies[place], *values))
            if recipe.validation:
                _note(history, FIT_METRICS, program.score(held_in, pixels, statistics)[2:])
            if not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss")):
                going.remove(place)
            if test is not None and (place not in going or epoch + 1 == recipe.epochs):
                values = program.score(test, pixels, statistics, len(validation[1]))
                _note(history, TEST_METRICS, values)
            on_epoch()
        if not going:
            break
    return histories


def _note(history: History, names: Iterable[str], values: Iterable[Any]) -> None:
    for name, value in zip(names, values, strict=True):
        history.setdefault(name, []).append(float(value))


class _Program(single._Program):
    """A program whose epoch trains a stack of networks; its model is the one that is looked at."""

    def __init__(
        self, recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int, count: int
    ) -> None:
        super().__init__(recipe, jit, shape, classes)
        self.trained, self.state = (
            [_stack(variable, count) for variable in variables]
            for variables in (self.model.trainable_variables, self.model.non_trainable_variables)
        )
        self.optimizer = keras.optimizers.get(recipe.optimizer)
        if recipe.weight_decay or recipe.optimizer == "adamw":
            self.optimizer.weight_decay = self.decay
            others = [stack for stack in self.trained if "kernel" not in stack.name]
            self.optimizer.exclude_from_weight_decay(others)
        self.optimizer.build(self.trained)
        self.fresh = [variable.numpy() for variable in self.optimizer.variables]

    def start_all(self, recipe: Recipe, seeds: Sequence[int]) -> None:
        """Put all networks and the optimiser into the state in which a run begins."""
        for place, seed in enumerate(seeds):
            self.start(recipe, seed)
            for stack, variable in self._pairs():
                stack.value[place].assign(variable)

    def look_at(self, place: int) -> None:
        """Give the model the variables of one network of the stack."""
        for stack, variable in self._pairs():
            variable.assign(stack[place])

    def _pairs(self) -> Iterable[tuple[Any, Any]]:
        variables = (*self.model.trainable_variables, *self.model.non_trainable_variables)
        return zip((*self.trained, *self.state), variables, strict=True)

    def _train_with(self, batch_size: int) -> Any:
        """Return the epoch in batches of that size, a smaller last one in a call of its own.

        Where XLA compiled these loops and a step after them together, that step was given the
        variables as they were before the loop. (The programs of `bn_tutorial.engines.single` do not
        show this: the tests hold them against Keras, or against themselves uncompiled.)
        """
        compiled = super()._train_with(batch_size)

        def run_epoch(images: Any, labels: Any, orders: Any, *pixels: Any) -> Any:
            whole = len(orders) - len(orders) % batch_size
            parts = [part for part in (orders[:whole], orders[whole:]) if len(part)]
            sums = [compiled(images, labels, part, *pixels) for part in parts]
            return sum(np.array(one) for one in sums) / len(orders)

        return run_epoch

    def _train(
        self, batch_size: int, images: Any, labels: Any, orders: Any, shift: Any, scale: Any
    ) -> Any:
        def forward(network: Any) -> Any:
            inputs, targets, *values = network
            variables = (self.model.trainable_variables, self.model.non_trainable_variables)
            mapping = [
                pair
                for of_model, given in zip(variables, values, strict=True)
                for pair in zip(of_model, given, strict=True)
            ]
            with keras.StatelessScope(state_mapping=mapping) as scope:
                outputs = self.model(inputs, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
            state = [scope.get_current_value(variable) for variable in variables[1]]
            return losses, single._hits(targets, outputs), state

        def step(positions: Any) -> Any:
            indices = tf.transpose(tf.gather(orders, positions))  # a row for each network
            inputs, targets = (
                single._batch(images, indices, shift, scale),
                tf.gather(labels, indices),
            )
            with tf.GradientTape() as tape:
                stacks = [
                    [tf.convert_to_tensor(stack) for stack in part]
                    for part in (self.trained, self.state)
                ]
                losses, hits, state = tf.vectorized_map(
                    forward, (inputs, targets, *stacks), fallback_to_while_loop=False
                )
                # a network's weights move its own loss alone, so the sum has all the gradients
                loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
            # of a single network they are sparse, for which optimisers have another rule
            gradients = map(tf.convert_to_tensor, tape.gradient(loss, self.trained))
            self.optimizer.apply(list(gradients), self.trained)
            for stack, value in zip(self.state, state, strict=True):
                stack.assign(value)
            return tf.reduce_sum(losses, axis=1), hits

        zero = tf.zeros(orders.shape[1])
        return sum_over_batches(step, (zero, zero), tf.range(orders.shape[0]), batch_size)


def _stack(variable: Any, count: int) -> Any:
    """Return a variable that holds `count` of the given one."""
    return keras.Variable(
        np.zeros((count, *variable.shape), variable.dtype),
        trainable=variable.trainable,
        dtype=variable.dtype,
        name=variable.name,
    )


@functools.lru_cache(maxsize=1)
def _program(
    recipe: Recipe, jit: bool, shape: tuple[int, ...], classes: int, count: int
) -> _Program:
    return _Program(recipe, jit, shape, classes, count)
