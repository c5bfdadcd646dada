"""Which images a step sees, and as what."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bn_tutorial.networks.backend import tf


def batch(images: Any, indices: Any, pixel_mean: Any, pixel_std: Any) -> Any:
    """Return the network's inputs for some of the images, float32."""
    return (tf.cast(tf.gather(images, indices), tf.float32) - pixel_mean) / pixel_std


def hits(targets: Any, outputs: Any) -> Any:
    """Return how many of the predictions are right."""
    best = tf.argmax(outputs, axis=-1, output_type=targets.dtype)
    return tf.reduce_sum(tf.cast(best == targets, tf.float32))


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int32]:
    """Return the order in which an epoch (from 0) visits the images, shape (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count).astype(np.int32)


def pixel_statistics(images: npt.NDArray[np.uint8]) -> tuple[Any, Any]:
    """Return mean and standard deviation per colour, without a float copy of all images."""
    sums = np.zeros((2, images.shape[-1]))  # of whole numbers, so exact
    for start in range(0, len(images), 1000):
        pixels = images[start : start + 1000].reshape(-1, images.shape[-1]).astype(np.float64)
        sums += [pixels.sum(axis=0), np.square(pixels).sum(axis=0)]
    mean, square = sums / (images.size / images.shape[-1])
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return mean.astype(np.float32), std.astype(np.float32)
