"""Normalisers: the ones Keras has, the ones it lacks, and the one factory for all."""

from __future__ import annotations

from typing import Any

from bn_tutorial.backend import keras
from bn_tutorial.recipe import DEFAULT_GROUPS

ops = keras.ops


def normalization(name: str, **options: Any) -> keras.layers.Layer:
    """Return a normalisation layer by its name in a recipe.

    Parameters
    ----------
    name : {"batch", "ghost", "renorm", "layer", "instance", "group"}
        ``"batch"`` is Keras's own `BatchNormalization`; the others normalise over ghost
        batches (Hoffer et al. 2017), with batch renormalisation (Ioffe 2017), over all
        features of one image, at each pixel by itself (Ba et al. 2016), over one channel of
        one image (Ulyanov et al. 2016) or over a group of its channels (Wu & He 2018).
    **options
        Passed to the layer; `bn_tutorial.recipe.NORMS` lists them.

    Returns
    -------
    keras.layers.Layer
        A layer that keeps its input's shape; the features are on the last axis.

    Raises
    ------
    ValueError
        If there is no normaliser of that name.
    """
    match name:
        case "batch":
            return keras.layers.BatchNormalization(**options)
        case "ghost":
            return GhostBatchNormalization(**options)
        case "renorm":
            return keras.layers.BatchNormalization(renorm=True, **options)
        case "layer":
            return keras.layers.LayerNormalization(**options)
        case "instance":
            return keras.layers.GroupNormalization(groups=-1, **options)
        case "group":
            return keras.layers.GroupNormalization(**{"groups": DEFAULT_GROUPS, **options})
    raise ValueError(
        f"there is no normaliser {name!r}: choose batch, ghost, renorm, layer, instance or group."
    )


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
        count = inputs.shape[0]
        if count is None:
            raise ValueError(
                "ghost batch normalisation needs a fixed batch size: "
                "give the model an Input with batch_size=…"
            )
        whole = count - count % self.size
        parts = [ops.reshape(inputs[:whole], (-1, self.size, *inputs.shape[1:]))]
        if whole < count:
            parts.append(inputs[None, whole:])
        outputs, mean, variance = [], 0.0, 0.0
        for part in parts:  # shape (ghosts, images of a ghost, ..., features)
            part = ops.cast(part, "float32")
            moments = ops.moments(part, axes=tuple(range(1, part.ndim - 1)), keepdims=True)
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

    def get_config(self) -> dict[str, Any]:
        """Return what is needed to build the layer anew."""
        return {**super().get_config(), "size": self.size}
