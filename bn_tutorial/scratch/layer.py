"""Batch normalisation as a Keras layer, written from scratch."""

from __future__ import annotations

from typing import Any

from bn_tutorial.networks.backend import keras

ops = keras.ops


class BatchNorm(keras.layers.Layer):
    """Batch normalisation in some thirty lines.

    In 32 and 64 bits and without masks, `keras.layers.BatchNormalization` computes the same.

    Parameters
    ----------
    axis : int
        The axis of the features; the statistics are over all others.
    momentum : float
        The weight of the past in the moving statistics.
    epsilon : float
        Added to the variance.
    center, scale : bool
        Whether beta and gamma are learned; if not, they stay 0 and 1.
    **kwargs
        As in `keras.layers.Layer`.

    References
    ----------
    Ioffe & Szegedy (2015), Batch normalization, Algorithms 1 and 2; as in Keras, the moving
    variance is the average of biased variances.
    """

    def __init__(
        self,
        axis: int = -1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.axis, self.momentum, self.epsilon = axis, momentum, epsilon
        self.center, self.scale = center, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        features = (input_shape[self.axis],)
        self.gamma = self.add_weight(features, "ones", trainable=self.scale, name="gamma")
        self.beta = self.add_weight(features, "zeros", trainable=self.center, name="beta")
        self.moving_mean = self.add_weight(features, "zeros", trainable=False, name="moving_mean")
        self.moving_variance = self.add_weight(
            features, "ones", trainable=False, name="moving_variance"
        )

    def call(self, x: Any, training: bool = False) -> Any:
        shape = [1] * x.ndim  # to broadcast one value per feature with x
        shape[self.axis] = -1
        if training and self.trainable:
            others = [axis for axis in range(x.ndim) if shape[axis] == 1]
            mean, variance = ops.moments(x, others)
            a = self.momentum
            self.moving_mean.assign(a * self.moving_mean + (1 - a) * mean)
            self.moving_variance.assign(a * self.moving_variance + (1 - a) * variance)
        else:
            mean, variance = self.moving_mean, self.moving_variance
        factor = ops.rsqrt(variance + self.epsilon) * self.gamma
        return x * ops.reshape(factor, shape) + ops.reshape(self.beta - mean * factor, shape)
