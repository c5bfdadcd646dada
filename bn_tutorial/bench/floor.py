"""What an epoch of the baseline cannot do without: its matrix products, and Adam's passes.

At batch 32 Adam's traffic takes as long as the products: in each step it reads the weights, their
gradient and two averages, and writes all but the gradient, seven passes over 1.6 million numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe.recipes import Recipe

#: Adam's constants; with so small a rate the numbers stay as they are, and take the same time.
RATE, FIRST, SECOND, EPSILON = 1e-6, 0.9, 0.999, 1e-7


def epochs_of(operands: Sequence[Any], images: int, epochs: int) -> Iterator[Any]:
    """Do the `work` of some epochs, and nothing else; yield what comes out of each."""
    compiled = tf.function(work, jit_compile=True)
    steps, rest = divmod(images, operands[0].shape[0])
    for _ in range(epochs):
        outputs = compiled(*operands, steps=steps, rest=rest)
        yield [result.numpy() for result in outputs]  # waits for the device


def operands(recipe: Recipe, data: Dataset) -> tuple[Any, ...]:
    """Return a batch, the test images and both kernels, as random numbers.

    A batch and the second kernel of spectral norm 1 keep the numbers in `work` from
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


def work(batch: Any, test: Any, first: Any, second: Any, steps: int, rest: int) -> Any:
    """Do the matrix products of one epoch of the baseline and of its validation, and Adam's passes.

    XLA would take a product that is the same in every step out of the loop, and drop one that nobody
    reads. So the first kernel really moves, what would be the second kernel's gradient is summed, and
    what is returned depends on all products. Adam moves the first kernel alone, which has 99.7 % of
    the weights.
    """

    def step(x: Any, first: Any, mean: Any, square: Any, total: Any) -> tuple[Any, ...]:
        hidden = x @ first
        outputs = hidden @ second  # stands for its own gradient
        total += tf.matmul(hidden, outputs, transpose_a=True)
        hidden_gradient = tf.matmul(outputs, second, transpose_b=True)
        gradient = tf.matmul(x, hidden_gradient, transpose_a=True)
        mean = FIRST * mean + (1 - FIRST) * gradient
        square = SECOND * square + (1 - SECOND) * tf.square(gradient)
        return first - RATE * mean / (tf.sqrt(square) + EPSILON), mean, square, total

    state = (first, tf.zeros_like(first), tf.zeros_like(first), tf.zeros_like(second))
    _, *state = tf.while_loop(
        lambda index, *_: index < steps,
        lambda index, *state: (index + 1, *step(batch, *state)),
        (0, *state),
    )
    if rest:
        state = step(batch[:rest], *state)
    first, *_, total = state
    return test @ first @ second, total
