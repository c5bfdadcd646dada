"""Layers that Keras lacks, and the one factory for all normalisers."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from typing import Any

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe.tables import DEFAULT_GROUPS, NORMALISERS, Normaliser

ops = keras.ops

#: How far the noise of `NoisyBatchNormalization` varies between the examples of one step.
JITTER = 0.1


def normalization(name: str, **options: Any) -> keras.layers.Layer:
    """Return a normalisation layer by its name in a recipe.

    Parameters
    ----------
    name : {"batch", "noisy", "noise", "ghost", "renorm", "layer", "instance", "group", "partial", \
            "rms", "dyt", "derf"}
        ``"batch"`` is Keras's own `BatchNormalization`; the others normalise with noise
        added (Santurkar et al. 2018; ``"noise"`` is that noise alone), over ghost batches (Hoffer et al.
        2017), with batch renormalisation (Ioffe 2017), over all features of one image, at each pixel or
        row by itself (Ba et al. 2016), over one channel of one image (Ulyanov et al. 2016), over a
        group of its channels (Wu & He 2018), by the mean or the variance alone, by the root mean
        square of all features (Zhang & Sennrich 2019), or not at all, but squash each number by tanh
        (Zhu et al. 2025) or erf (Chen et al. 2025).
    **options
        Passed to the layer; `bn_tutorial.recipe.tables.NORMALISERS` lists them, except for the ``seed``
        of ``"noisy"`` and ``"noise"``.

    Returns
    -------
    keras.layers.Layer
        A layer that keeps its input's shape; the features are on the last axis.

    Raises
    ------
    ValueError
        If there is no normaliser of that name.
    """
    if name not in NORMALISERS:
        *most, last = NORMALISERS
        raise ValueError(f"there is no normaliser {name!r}: choose {', '.join(most)} or {last}.")
    row = NORMALISERS[name]
    usual = {"groups": DEFAULT_GROUPS} if "groups" in row.options else {}
    return kind(row)(**{**usual, **row.fixed, **options})


def kind(normaliser: Normaliser) -> type[keras.layers.Layer]:
    """Return the class of a normaliser's layer."""
    return pkgutil.resolve_name(normaliser.make)  # type: ignore[no-any-return]


@keras.saving.register_keras_serializable("bn_tutorial")
class GhostBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation over ghost batches: consecutive parts of the mini-batch.

    In training each part is normalised by its own statistics, so the noise is that of a
    batch of `size`, whatever the batch size of the gradient. The moving statistics are
    those of the parts, averaged. At inference it is ordinary batch normalisation.

    Parameters
    ----------
    size : int or None
        Images in a ghost batch. A last part that is smaller is normalised by itself. None
        means the whole mini-batch.
    **kwargs
        As in `keras.layers.BatchNormalization`, with the features on the last axis.

    References
    ----------
    Hoffer, Hubara & Soudry (2017), Train longer, generalize better, Algorithm 1.
    """

    def __init__(self, size: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise `inputs`, of shape (batch, ..., features).

        Raises
        ------
        ValueError
            In training, if the batch's size is not known when the graph is built.
        """
        if not (training and self.trainable) or self.size is None:
            return super().call(inputs, training=training, mask=mask)
        count, dtype = inputs.shape[0], keras.backend.result_type(inputs.dtype, "float32")
        if count is None:
            raise ValueError(
                "ghost batch normalisation needs a fixed batch size: "
                "give the model an Input with batch_size=…"
            )
        seen = None if mask is None else self._ghosts(ops.cast(mask[..., None], dtype))
        outputs, mean, variance = [], 0.0, 0.0
        for index, part in enumerate(self._ghosts(inputs)):
            part = ops.cast(part, dtype)
            moments = _moments(part, seen and seen[index])
            scale = ops.rsqrt(moments[1] + self.epsilon)
            scale = scale * self.gamma if self.scale else scale
            shift = self.beta if self.center else 0.0
            normalised = (part - moments[0]) * scale + shift
            outputs.append(ops.reshape(normalised, (-1, *inputs.shape[1:])))
            share = part.shape[1] / count
            mean += share * ops.sum(ops.reshape(moments[0], (part.shape[0], -1)), axis=0)
            variance += share * ops.sum(ops.reshape(moments[1], (part.shape[0], -1)), axis=0)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return ops.cast(ops.concatenate(outputs, axis=0), self.compute_dtype)

    def _ghosts(self, values: Any) -> list[Any]:
        """Return ghosts of equal size, and a smaller last one: (ghosts, images, ..., features)."""
        count, size = values.shape[0], self.size
        whole = count - count % size
        parts = [ops.reshape(values[:whole], (-1, size, *values.shape[1:]))]
        return [*parts, values[None, whole:]] if whole < count else parts

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        return {**super().get_config(), "size": self.size}


def _moments(part: Any, seen: Any) -> tuple[Any, Any]:
    """Return mean and variance of each ghost, of what a mask lets be seen."""
    axes = tuple(range(1, part.ndim - 1))
    if seen is None:
        mean, variance = ops.moments(part, axes=axes, keepdims=True)
        return mean, variance
    seen = ops.broadcast_to(seen, part.shape)
    count = ops.maximum(ops.sum(seen, axes, keepdims=True), 1)
    mean = ops.sum(seen * part, axes, keepdims=True) / count
    return mean, ops.sum(seen * (part - mean) ** 2, axes, keepdims=True) / count


class _Noise(keras.layers.Layer):
    """What layers with noise share: the numbers that say how much, and the draws."""

    def __init__(
        self,
        max_shift: float = 0.5,
        max_scale: float = 1.25,
        by_example: bool = False,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.max_shift, self.max_scale, self.by_example = max_shift, max_scale, by_example
        self.seed, self.noise = seed, True
        self.seed_generator = keras.random.SeedGenerator(seed)

    def _noised(self, outputs: Any, training: bool | None) -> Any:
        if not (training and self.trainable and self.noise):
            return outputs
        every = ops.shape(outputs)
        centres = self._draw(
            tf.random.stateless_uniform, (2, *(every if self.by_example else outputs.shape[-1:]))
        )
        shift = self.max_shift * (2.0 * centres[0] - 1.0)
        shift += JITTER * (2.0 * self._draw(tf.random.stateless_uniform, every) - 1.0)
        scale = 1.0 + (self.max_scale - 1.0) * centres[1]
        scale += JITTER * self._draw(tf.random.stateless_normal, every)
        return scale * outputs + shift

    def _draw(self, distribution: Callable[..., Any], shape: Any) -> Any:
        seed = ops.cast(self.seed_generator.next(), "int32")
        # keras.random does not name the algorithm, and XLA on a CPU may then take far longer
        return ops.cast(distribution(shape, seed, alg="philox"), self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        names = ("max_shift", "max_scale", "by_example", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable("bn_tutorial")
class NoisyBatchNormalization(_Noise, keras.layers.BatchNormalization):
    """Batch normalisation whose outputs are given another distribution in every step.

    In training, the output y of example i and unit j (the last axis; each pixel or row of an
    example draws for itself) becomes s_ij · y + m_ij. In each step each unit draws

    - μ_j from U(−m, m), with m = `max_shift`, and σ_j from U(1, `max_scale`), for the whole batch, then
    - m_ij from U(μ_j − 0.1, μ_j + 0.1) and s_ij from N(σ_j, 0.1²), for each example.

    So the inputs of the next layer shift from step to step, which plain batch normalisation
    is meant to prevent. The moving statistics are those of the plain layer, and inference is
    plain batch normalisation. While the attribute `noise` is False, training is plain, too.

    Parameters
    ----------
    max_shift : float
        The largest shift that a unit can draw; 0 or more.
    max_scale : float
        The largest factor that a unit can draw; 1 or more.
    by_example : bool
        Whether μ and σ are drawn for each example, too: the noise of an output is as strong then, and
        no distribution shifts.
    seed : int or None
        Fixes the noise. None draws a seed.
    **kwargs
        As in `keras.layers.BatchNormalization`, with the features on the last axis.

    References
    ----------
    Santurkar, Tsipras, Ilyas & Mądry (2018), How does batch normalization help optimization?,
    section 2, which adds i.i.d. noise whose mean is not 0, whose variance is not 1, and whose
    distribution changes in every step; the distributions above are one such noise.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise `inputs`, of shape (batch, ..., features), and add the noise."""
        return self._noised(super().call(inputs, training=training, mask=mask), training)


@keras.saving.register_keras_serializable("bn_tutorial")
class ShiftingNoise(_Noise):
    """The noise of `NoisyBatchNormalization` without its normalisation.

    In training, outputs are the inputs with that noise; at inference they are the inputs.

    Parameters
    ----------
    max_shift, max_scale, by_example, seed
        As in `NoisyBatchNormalization`.
    **kwargs
        As in `keras.layers.Layer`.

    References
    ----------
    Santurkar et al. (2018), section 2, for whose noise this is the control.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Add the noise to `inputs`, of shape (batch, ..., features)."""
        return self._noised(inputs, training)


@keras.saving.register_keras_serializable("bn_tutorial")
class PartialBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalisation by a part of its statistics.

    Parameters
    ----------
    mean : bool
        Whether the mean is taken away.
    variance : bool
        Whether the rest is divided by the standard deviation (which is about the mean, in any case).
        With neither, γ and β alone are left. Moving statistics of both are gathered all the same.
    **kwargs
        As in `keras.layers.BatchNormalization`, with the features on the last axis.

    References
    ----------
    Salimans & Kingma (2016), Weight normalization, section 4, for the mean alone; Zhang, Lipton, Li &
    Smola (2023), Dive into deep learning, section 8.5, whose exercises ask for either.
    """

    def __init__(self, mean: bool = True, variance: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mean, self.variance = mean, variance

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise `inputs`, of shape (batch, ..., features)."""
        if self.mean and self.variance:
            return super().call(inputs, training=training, mask=mask)
        values = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            seen = None if mask is None else ops.cast(mask[None, ..., None], values.dtype)
            mean, variance = (ops.reshape(one, (-1,)) for one in _moments(values[None], seen))
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        if self.mean:
            values -= mean
        if self.variance:
            values *= ops.rsqrt(variance + self.epsilon)
        values = values * self.gamma if self.scale else values
        values = values + self.beta if self.center else values
        return ops.cast(values, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        return {**super().get_config(), "mean": self.mean, "variance": self.variance}
