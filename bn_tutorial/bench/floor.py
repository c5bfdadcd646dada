"""The matrix products of an epoch, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe import Recipe


def matmul_only(operands: Sequence[Any], images: int, epochs: int) -> Iterator[Any]:
    """Do the matrix products of some epochs, and nothing else; yield what comes out of each."""
    compiled = tf.function(products, jit_compile=True)
    steps, rest = divmod(images, operands[0].shape[0])
    for _ in range(epochs):
        outputs = compiled(*operands, steps=steps, rest=rest)
        yield [result.numpy() for result in outputs]  # waits for the device


def operands(recipe: Recipe, data: Dataset) -> tuple[Any, ...]:
    """Return a batch, the test images and both kernels, as random numbers.

    A batch and the second kernel of spectral norm 1 keep the numbers in `products` from
    growing or dying away: NaN and denormal numbers may take another time.
    """
    random = np.random.default_rng(0)
    features = int(np.prod(data.x_train.shape[1:]))
    batch, test, first, second = (
        random.standard_normal(shape, dtype=np.float32)
        for shape in (
            (recipe.batch_size, features),
            (len(data.x_test), features),
            (features, recipe.width),
            (recipe.width, len(data.classes)),
        )
    )
    unit = (array / np.linalg.norm(array, 2) for array in (batch, second))
    return tuple(map(tf.constant, (next(unit), test, first, next(unit))))


def products(batch: Any, test: Any, first: Any, second: Any, steps: int, rest: int) -> Any:
    """Do the matrix products of one epoch of the baseline and of its validation.

    XLA would take a product that is the same in every step out of the loop, and drop one
    that nobody reads. So the product in the place of the first kernel's gradient is the
    first kernel of the next step, that of the second kernel's gradient is summed, and what
    is returned depends on all of them. The sum, over as many numbers as the small second
    kernel has, is the only thing here that is no matrix product.
    """

    def step(x: Any, first: Any, total: Any) -> tuple[Any, Any]:
        hidden = x @ first
        outputs = hidden @ second  # stands for its own gradient
        total += tf.matmul(hidden, outputs, transpose_a=True)
        hidden_gradient = tf.matmul(outputs, second, transpose_b=True)
        return tf.matmul(x, hidden_gradient, transpose_a=True), total

    _, first, total = tf.while_loop(
        lambda index, *_: index < steps,
        lambda index, first, total: (index + 1, *step(batch, first, total)),
        (0, first, tf.zeros_like(second)),
    )
    if rest:
        first, total = step(batch[:rest], first, total)
    return test @ first @ second, total
