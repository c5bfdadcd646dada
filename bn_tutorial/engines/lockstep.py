"""Several seeds of one recipe in one compiled program: training vectorised over seeds.

A step of a small dense network is little work for a GPU, so the networks of all seeds take each
step together here: every variable is stacked along a leading axis of seeds, the forward pass is
mapped over that axis, and the optimiser, which treats each number by itself, updates the whole
stack. What is measured after an epoch, in large batches, is measured network by network by the
functions of `bn_tutorial.engines.program`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.engines import single
from bn_tutorial.engines.batches import batch, epoch_order, hits
from bn_tutorial.engines.program import Images, Program, optimiser
from bn_tutorial.engines.rows import Row
from bn_tutorial.engines.single import epoch_row
from bn_tutorial.engines.workbench import Engine, Workbench
from bn_tutorial.networks import backend
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.statistics import sum_over_batches
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.recipe.tables import NORMALISERS, OPTIMISERS


def supports(recipe: Recipe) -> bool:
    """Return whether the networks of several seeds can be trained together.

    Parameters
    ----------
    recipe : Recipe
        What to train.

    Returns
    -------
    bool
        True for a dense network that draws nothing at random in training (without dropout, and
        with any normaliser but ``"noisy"``), as TensorFlow would make random draws network by
        network; and for an optimiser that treats each number by itself.
    """
    row = NORMALISERS.get(recipe.norm or "")
    draws = recipe.dropout > 0 or (row is not None and row.random)
    return recipe.model == "mlp" and not draws and OPTIMISERS[recipe.optimizer].elementwise


def usual_engine(recipe: Recipe) -> Engine:
    """Return what trains a recipe if nothing else is asked for.

    Parameters
    ----------
    recipe : Recipe
        What is to be trained.

    Returns
    -------
    Engine
        On a GPU `fit` of this module for recipes that it supports, of which `fit_together` trains
        several seeds at a time; else `bn_tutorial.engines.single.fit`. It does not depend on how
        many seeds are asked for, or missing, so that all runs of a recipe are of one engine.
    """
    return fit if backend.GPUS and supports(recipe) else single.fit


def fit(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train one network as `fit_together` does.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`.

    Yields
    ------
    dict of str to float
        What `bn_tutorial.engines.single.fit` yields.

    Raises
    ------
    ValueError
        If the recipe is not supported.
    """
    for _, row in fit_together(bench, recipe, [seed]):
        yield row


def fit_together(
    bench: Workbench, recipe: Recipe, seeds: Sequence[int]
) -> Iterator[tuple[int, Row]]:
    """Train one network for each seed, all of them step by step together.

    Each network has the initial weights and the order of the images that it has in
    `bn_tutorial.engines.single.fit`; only sums are taken in another order.

    Parameters
    ----------
    bench : Workbench
        Has the images.
    recipe : Recipe
        What to train; it must be supported (`supports`).
    seeds : sequence of int
        One for each network.

    Yields
    ------
    seed : int
        Each of the seeds, in order, after each epoch.
    row : dict of str to float
        What `bn_tutorial.engines.single.fit` yields then. Networks do not touch each other, so
        one that diverges is no reason to stop: leave out its rows from there on.

    Raises
    ------
    ValueError
        If the recipe is not supported.
    """
    if not supports(recipe):
        raise ValueError(
            f"{recipe.label!r} cannot be trained vectorised over seeds, which takes model 'mlp' "
            "without dropout and noise, and an optimiser that treats each number by itself: train "
            "it with bn_tutorial.engines.single.fit."
        )
    program = bench.program_of(Vectorised, recipe, count=len(seeds))
    own = [(bench.resident(recipe, seed), bench.pixel_statistics(recipe, seed)) for seed in seeds]
    train, offsets, all_pixels = _side_by_side(own)
    program.start_all(recipe, seeds)
    run_epoch = program.train(recipe.batch_size)
    count = len(own[0][0][0][1])
    for epoch in range(recipe.epochs):
        orders = [
            epoch_order(seed, epoch, count) + offset
            for seed, offset in zip(seeds, offsets, strict=True)
        ]
        measured = run_epoch(*train, np.stack(orders, axis=1), *all_pixels)
        for index, (seed, images) in enumerate(zip(seeds, own, strict=True)):
            program.load_network(index)
            loss, accuracy = (float(value[index]) for value in measured)
            yield seed, epoch_row(program, recipe, *images, (loss, accuracy), epoch)


def _side_by_side(own: Sequence[Any]) -> tuple[Images, list[int], list[Any]]:
    """Return all networks' training images, where each one's begin, and their pixel statistics.

    Networks that use all images share them.
    """
    trains = [train for (train, *_), _ in own]
    columns = zip(*(pixels for _, pixels in own), strict=True)
    pixels = [np.stack(column)[:, None, None, None] for column in columns]
    if all(train[0] is trains[0][0] for train in trains):
        return trains[0], [0] * len(own), pixels
    images, labels = (tf.concat(part, 0) for part in zip(*trains, strict=True))
    return (images, labels), [index * len(trains[0][1]) for index in range(len(own))], pixels


class Vectorised(Program):
    """A program whose epoch trains a stack of networks; its model is the one that was loaded.

    Parameters
    ----------
    *args
        As in `bn_tutorial.engines.program.Program`.
    count : int
        How many networks.
    """

    def __init__(self, *args: Any, count: int) -> None:
        super().__init__(*args)
        recipe: Recipe = args[0]
        self.trained, self.state = (
            [_stack(variable, count) for variable in variables]
            for variables in (self.model.trainable_variables, self.model.non_trainable_variables)
        )
        self.optimizer = optimiser(recipe, self.decay, self.trained)
        fresh = [(one, one.numpy()) for one in self.optimizer.variables]
        self.fresh = [*self.fresh[: len(self.model.variables)], *fresh]

    def start_all(self, recipe: Recipe, seeds: Sequence[int]) -> None:
        """Put all networks and the optimiser into the state in which a run begins."""
        for index, seed in enumerate(seeds):
            self.start(recipe, seed)
            for stack, variable in self._pairs():
                stack.value[index].assign(variable)

    def load_network(self, index: int) -> None:
        """Give the model the variables of one network of the stack."""
        for stack, variable in self._pairs():
            variable.assign(stack[index])

    def _pairs(self) -> Iterable[tuple[Any, Any]]:
        variables = (*self.model.trainable_variables, *self.model.non_trainable_variables)
        return zip((*self.trained, *self.state), variables, strict=True)

    def _train(self, batch_size: int) -> Any:
        """Return the epoch in batches of that size, a smaller last one in a call of its own."""
        # Works around XLA (TensorFlow 2.21.0 on a CPU; test_compiled_by_xla_they_are_the_same shows
        # it): a step compiled after the while loop reads the variables as they were before it.
        # `single` is not affected: test_compiling_by_xla_changes_nothing.
        compiled = super()._train(batch_size)

        def run_epoch(images: Any, labels: Any, orders: Any, *pixels: Any) -> Any:
            whole = len(orders) - len(orders) % batch_size
            parts = [part for part in (orders[:whole], orders[whole:]) if len(part)]
            sums = [compiled(images, labels, part, *pixels) for part in parts]
            return sum(np.array(one) for one in sums) / len(orders)

        return run_epoch

    def epoch(
        self,
        batch_size: int,
        images: Any,
        labels: Any,
        orders: Any,
        pixel_mean: Any,
        pixel_std: Any,
    ) -> Any:
        """Train on the images in those orders, shape (images, networks); return sums, not means."""

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
            return losses, hits(targets, outputs), state

        def step(positions: Any) -> Any:
            indices = tf.transpose(tf.gather(orders, positions))  # a row for each network
            inputs = batch(images, indices, pixel_mean, pixel_std)
            targets = tf.gather(labels, indices)
            with tf.GradientTape() as tape:
                stacks = [
                    [tf.convert_to_tensor(stack) for stack in part]
                    for part in (self.trained, self.state)
                ]
                losses, right, state = tf.vectorized_map(
                    forward, (inputs, targets, *stacks), fallback_to_while_loop=False
                )
                # a network's weights move its own loss alone, so the sum has all the gradients
                loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
            # of a single network they are sparse, for which optimisers have another rule
            gradients = map(tf.convert_to_tensor, tape.gradient(loss, self.trained))
            self.optimizer.apply(list(gradients), self.trained)
            for stack, value in zip(self.state, state, strict=True):
                stack.assign(value)
            return tf.reduce_sum(losses, axis=1), right

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
