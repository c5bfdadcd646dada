"""A gated recurrent unit whose inputs are projected beforehand, and whose states can be normalised."""

from __future__ import annotations

from typing import Any

from bn_tutorial.networks.backend import keras, tf

ops = keras.ops

#: Where the scale of batch normalised transitions starts (Cooijmans et al. 2017, section 4).
SMALL_SCALE = 0.1


@keras.saving.register_keras_serializable("bn_tutorial")
class ProjectedGRU(keras.layers.Layer):
    """A gated recurrent unit that is given its inputs' projections, aˣ = x·W + b.

    A `Dense` layer projects all steps at once, so that a normaliser can stand between it and the
    recurrence. With aˣ and aʰ = h·U + c split into three parts of `units` each, a step computes

    - the update gate z = σ(aˣ_z + aʰ_z) and the reset gate r = σ(aˣ_r + aʰ_r),
    - the candidate h̃ = tanh(aˣ_h + r ⊙ aʰ_h), reset after the product, and
    - the new state z ⊙ h + (1 − z) ⊙ h̃.

    That is `keras.layers.GRU` with its defaults; the columns of W and U are in its order. The product
    h·U can be normalised, before c is added: by statistics of each example's 3 · units numbers ("layer"), or
    of the batch ("batch"). The latter are of each step by itself, and so are the moving statistics, of
    shape (steps, 3 · units); all steps share γ.

    Parameters
    ----------
    units : int
        Size of the hidden state.
    recurrent_initializer : str or keras.initializers.Initializer
        The initial distribution of U, of shape (units, 3 · units); c starts from 0.
    norm : {None, "layer", "batch"}
        What normalises h·U. The scale γ starts from 1 or, with "batch", from `SMALL_SCALE`.
    momentum, epsilon : float
        As in `keras.layers.BatchNormalization`.
    return_sequences : bool
        Whether all states are returned, shape (batch, steps, units), or the last one.
    **kwargs
        As in `keras.layers.Layer`.

    References
    ----------
    Cho et al. (2014), Learning phrase representations using RNN encoder–decoder, there with the reset
    before the product; Ba et al. (2016), Layer normalization, section 3.1; Cooijmans et al. (2017),
    Recurrent batch normalization, section 3.
    """

    def __init__(
        self,
        units: int,
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        norm: str | None = None,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        return_sequences: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.norm, self.return_sequences = units, norm, return_sequences
        self.momentum, self.epsilon = momentum, epsilon
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights.

        Raises
        ------
        ValueError
            If the inputs do not have three features for each unit.
        """
        steps, size = input_shape[1], 3 * self.units
        if input_shape[-1] != size:
            raise ValueError(f"the projected inputs have {input_shape[-1]} features, not {size}.")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, size),
            initializer=self.recurrent_initializer,
            name="recurrent_kernel",
        )
        self.bias = self.add_weight(shape=(size,), initializer="zeros", name="bias")
        if self.norm:
            start = keras.initializers.Constant(SMALL_SCALE if self.norm == "batch" else 1.0)
            self.gamma = self.add_weight(shape=(size,), initializer=start, name="gamma")
        if self.norm == "batch":
            self.moving_mean, self.moving_variance = (
                self.add_weight(shape=(steps, size), initializer=one, trainable=False, name=name)
                for name, one in (("moving_mean", "zeros"), ("moving_variance", "ones"))
            )

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Return the states for projected inputs of shape (batch, steps, 3 · units)."""
        learns = bool(training and self.trainable)

        def step(before: tuple[Any, ...], row: tuple[Any, ...]) -> tuple[Any, ...]:
            product = ops.matmul(before[0], self.recurrent_kernel)
            recurrent, moments = self._normalised(product, row[1:], learns)
            return (self._next(before[0], row[0], recurrent + self.bias), *moments)

        rows = (ops.swapaxes(inputs, 0, 1), *map(ops.convert_to_tensor, self._moving))
        start = ops.zeros((ops.shape(inputs)[0], self.units), inputs.dtype)
        # not Keras's scan: XLA cannot take its gradient
        states, *moments = tf.scan(
            step, rows, (start, *(ops.zeros_like(one[0]) for one in self._moving))
        )
        if learns:
            for moving, batch in zip(self._moving, moments, strict=True):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return ops.swapaxes(states, 0, 1) if self.return_sequences else states[-1]

    @property
    def _moving(self) -> list[Any]:
        return [self.moving_mean, self.moving_variance] if self.norm == "batch" else []

    def _normalised(
        self, product: Any, moving: tuple[Any, ...], learns: bool
    ) -> tuple[Any, tuple[Any, ...]]:
        """Return a step's product h·U, normalised, and its statistics if they are the batch's."""
        if not self.norm:
            return product, ()
        if self.norm == "layer":
            mean, variance = ops.moments(product, axes=-1, keepdims=True)
            moments: tuple[Any, ...] = ()
        else:
            moments = moving if not learns else tuple(ops.moments(product, axes=0))
            mean, variance = moments
        return (product - mean) * ops.rsqrt(variance + self.epsilon) * self.gamma, moments

    def _next(self, state: Any, inputs: Any, recurrent: Any) -> Any:
        gates = 2 * self.units
        update, reset = ops.split(ops.sigmoid(inputs[:, :gates] + recurrent[:, :gates]), 2, axis=-1)
        candidate = ops.tanh(inputs[:, gates:] + reset * recurrent[:, gates:])
        return update * state + (1.0 - update) * candidate

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        names = ("units", "norm", "momentum", "epsilon", "return_sequences")
        initializer = keras.initializers.serialize(self.recurrent_initializer)
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in names},
            "recurrent_initializer": initializer,
        }
