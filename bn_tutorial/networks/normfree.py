"""Layers of networks without normalisers: what squashes, what starts at zero, standardised kernels."""

from __future__ import annotations

import math
from typing import Any

from bn_tutorial.networks.backend import keras

ops = keras.ops


class _Squash(keras.layers.Layer):
    """γ f(αx + s) + β with a trained number α (and s), and γ and β for each feature."""

    def __init__(self, alpha: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start = alpha

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the variables."""
        start = keras.initializers.Constant(self.start)
        self.alpha = self.add_weight((), start, name="alpha")
        self.gamma = self.add_weight(shape[-1:], "ones", name="gamma")
        self.beta = self.add_weight(shape[-1:], "zeros", name="beta")

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        return {**super().get_config(), "alpha": self.start}


@keras.saving.register_keras_serializable("bn_tutorial")
class DynamicTanh(_Squash):
    """In place of a normaliser: γ tanh(αx) + β, number by number.

    Parameters
    ----------
    alpha : float
        What α starts from; it is one number for the whole layer, and is trained.
    **kwargs
        As in `keras.layers.Layer`.

    References
    ----------
    Zhu, Chen, He, LeCun & Liu (2025), Transformers without normalization, section 4.
    """

    def call(self, inputs: Any) -> Any:
        """Squash `inputs`, of shape (batch, ..., features)."""
        return self.gamma * ops.tanh(self.alpha * inputs) + self.beta


@keras.saving.register_keras_serializable("bn_tutorial")
class DynamicErf(_Squash):
    """In place of a normaliser: γ erf(αx + s) + β, number by number.

    Parameters
    ----------
    alpha : float
        What α starts from; s starts from 0. Both are one number for the whole layer, and are trained.
    **kwargs
        As in `keras.layers.Layer`.

    References
    ----------
    Chen et al. (2025), Stronger normalization-free transformers, which name it Derf.
    """

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the variables."""
        super().build(shape)
        self.shift = self.add_weight((), "zeros", name="shift")

    def call(self, inputs: Any) -> Any:
        """Squash `inputs`, of shape (batch, ..., features)."""
        return self.gamma * ops.erf(self.alpha * inputs + self.shift) + self.beta


@keras.saving.register_keras_serializable("bn_tutorial")
class Gain(keras.layers.Layer):
    """One trained number that starts at 0, times the inputs.

    References
    ----------
    De & Smith (2020), Batch normalization biases residual blocks towards the identity function in
    deep networks (SkipInit).
    """

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the variable."""
        self.gain = self.add_weight((), "zeros", name="gain")

    def call(self, inputs: Any) -> Any:
        """Multiply `inputs`, of any shape."""
        return self.gain * inputs


@keras.saving.register_keras_serializable("bn_tutorial")
class StandardizedDense(keras.layers.Dense):
    """A dense layer with weight standardisation, scaled for a ReLU.

    Each unit's kernel has its mean taken away, and is divided by its standard deviation and the root
    of the number of inputs. It is multiplied by √(2 / (1 − 1/π)), with which a ReLU keeps a variance
    of 1, and by a gain for each unit, which starts at 1 and is trained.

    Parameters
    ----------
    *args, **kwargs
        As in `keras.layers.Dense`.

    References
    ----------
    Qiao et al. (2019), Micro-batch training with batch-channel normalization and weight
    standardization; Brock, De & Smith (2021), Characterizing signal propagation to close the performance gap
    in unnormalized ResNets, for the scale (as in their program).
    """

    SCALE = (2 / (1 - 1 / math.pi)) ** 0.5

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Create the variables."""
        super().build(shape)
        self.gain = self.add_weight((self.units,), "ones", name="gain")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Apply the layer to `inputs`, of shape (batch, features)."""
        mean, variance = ops.moments(self.kernel, axes=0, keepdims=True)
        scale = self.SCALE * self.gain * ops.rsqrt(self.kernel.shape[0] * variance + 1e-4)
        outputs = ops.matmul(inputs, (self.kernel - mean) * scale)
        if self.use_bias:
            outputs += self.bias
        return self.activation(outputs)

    def save_own_variables(self, store: Any) -> None:
        """Store all variables; a dense layer knows of two alone."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        """Load all variables."""
        keras.layers.Layer.load_own_variables(self, store)
