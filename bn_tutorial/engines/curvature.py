"""An engine that goes down the whole training loss, and measures its curvature on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from bn_tutorial.engines.batches import batch
from bn_tutorial.engines.probes import gradients_at
from bn_tutorial.engines.program import Program
from bn_tutorial.engines.rows import Row
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe.recipes import Recipe

#: How often the curvature is measured, and how often its direction is improved then.
POINTS, ITERATIONS = 12, 12


def edge(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train by gradient descent on all images at once, and measure the sharpness.

    Parameters
    ----------
    bench, recipe, seed
        As in `bn_tutorial.engines.single.fit`. The batch must be all training images; an epoch is a step.

    Yields
    ------
    dict of str to float
        A row for each of `POINTS` stretches of equal length (or for each step, if there are fewer),
        measured at its end. ``step``: steps so far. ``loss``, ``accuracy``: in training mode, before the
        last step. ``sharpness``: the largest eigenvalue of the loss's Hessian in training mode, by
        `ITERATIONS` steps of Lanczos's method from the direction before; a negative one, however far from
        0, is not the largest. ``means``: how much of that direction's square lies in the span of the
        gradients of the outputs' means over the images (logits, centred over the classes).

    Raises
    ------
    ValueError
        If a batch is not all training images.

    References
    ----------
    Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of stability.
    """
    (images, labels), *_ = bench.resident(recipe, seed)
    if recipe.batch_size != len(labels):
        raise ValueError(
            f"batch_size={recipe.batch_size} is impossible here: it must be all {len(labels)} images."
        )
    program, pixels = bench.program_of(Curvature, recipe), bench.pixel_statistics(recipe, seed)
    program.start(recipe, seed)
    size = sum(int(np.prod(one.shape)) for one in program.variables)
    direction = np.random.default_rng(seed).normal(size=size).astype(np.float32)
    done = 0
    stops = np.linspace(0, recipe.epochs, POINTS + 1).round().astype(np.int32)
    for stop in np.unique(stops)[1:]:
        loss, accuracy = program.descend(images, labels, tf.constant(stop - done), *pixels)
        sharpness, means, direction = program.sharpness(images, labels, direction, *pixels)
        done = stop
        row = {"step": stop, "loss": loss, "accuracy": accuracy, "sharpness": sharpness}
        yield {name: float(value) for name, value in (row | {"means": means}).items()}


class Curvature(Program):
    """A program for steps on all images, and for the Hessian of the loss."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.descend, self.sharpness = self.compile(self._descend), self.compile(self._sharpness)

    def _descend(self, images: Any, labels: Any, steps: Any, *pixels: Any) -> Any:
        order = tf.range(labels.shape[0])

        def step(index: Any, _: Any) -> Any:
            return index + 1, self.epoch(labels.shape[0], images, labels, order, *pixels)

        _, measured = tf.while_loop(lambda index, _: index < steps, step, (0, (0.0, 0.0)))
        return measured

    def _sharpness(self, images: Any, labels: Any, direction: Any, *pixels: Any) -> Any:
        inputs = batch(images, tf.range(labels.shape[0]), *pixels)
        values = [tf.convert_to_tensor(one) for one in self.variables]

        def curved(direction: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(values)
                _, slopes = gradients_at(self.model, inputs, labels, values)
                along = tf.reduce_sum(_flat(slopes) * direction)
            return _flat(tape.gradient(along, values))

        def extend(index: Any, basis: Any, products: Any, new: Any) -> Any:
            changed = curved(new)
            basis = tf.tensor_scatter_nd_update(basis, [[index]], new[None])
            products = tf.tensor_scatter_nd_update(products, [[index]], changed[None])
            for _ in range(2):  # once leaves what is rounded
                changed -= tf.linalg.matvec(
                    basis, tf.linalg.matvec(basis, changed), transpose_a=True
                )
                changed = tf.math.divide_no_nan(changed, tf.norm(changed))
            return index + 1, basis, products, changed

        empty = tf.zeros((ITERATIONS, direction.shape[0]))
        begin = (0, empty, empty, direction / tf.norm(direction))
        _, basis, products, _ = tf.while_loop(lambda index, *_: index < ITERATIONS, extend, begin)
        within = tf.matmul(basis, products, transpose_b=True)
        sizes, ways = tf.linalg.eigh((within + tf.transpose(within)) / 2)
        sharpness, direction = sizes[-1], tf.linalg.matvec(basis, ways[:, -1], transpose_a=True)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            mapping = list(zip(self.model.trainable_variables, values, strict=True))
            with keras.StatelessScope(state_mapping=mapping):
                chances = self.model(inputs, training=True)
            logs = tf.math.log(tf.maximum(chances, 1e-12))
            means = tf.unstack(tf.reduce_mean(logs - tf.reduce_mean(logs, -1, keepdims=True), 0))
        slopes = tf.stack([_flat(tape.gradient(one, values)) for one in means], axis=-1)
        basis, _ = tf.linalg.qr(slopes[:, :-1])  # they add up to nothing
        return sharpness, tf.reduce_sum((tf.transpose(basis) @ direction[:, None]) ** 2), direction


def _flat(tensors: list[Any]) -> Any:
    return tf.concat([tf.reshape(one, [-1]) for one in tensors], axis=0)
