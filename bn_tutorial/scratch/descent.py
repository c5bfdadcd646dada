"""Plain gradient descent, step by step, where a network's kernels may have a rate of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bn_tutorial.networks.backend import keras, tf

Array = npt.NDArray[Any]


class Descent(NamedTuple):
    """What was noted on the way down.

    Parameters
    ----------
    losses : ndarray, shape (steps,)
        The loss of each batch, in training mode, before the step.
    norms : ndarray, shape (steps + 1,)
        The norm ‖w‖ of the first kernel before each step and after the last.
    gradient_norms : ndarray, shape (steps,)
        The norm of the gradient with respect to it.
    """

    losses: Array
    norms: Array
    gradient_norms: Array


def descend(
    model: keras.Model,
    images: Array,
    labels: Array,
    batches: npt.NDArray[np.integer[Any]],
    rate: float,
    hidden: float | None = None,
) -> Descent:
    """Train a network by plain gradient descent, in the precision in which it was built.

    Parameters
    ----------
    model : keras.Model
        A network of `bn_tutorial.networks.models.build`; it is trained.
    images : ndarray, shape (n, ...)
        What its inputs are taken from.
    labels : ndarray of int, shape (n,)
        Their classes.
    batches : ndarray of int, shape (steps, size)
        The images of each step.
    rate : float
        The learning rate.
    hidden : float, optional
        That of all kernels but the last, if it is another.

    Returns
    -------
    Descent
        The losses, and how large the first kernel and its gradient were.
    """
    weights = model.trainable_variables
    kernels = [one for one in weights if one.name == "kernel"]
    own = {} if hidden is None else {id(one): hidden for one in kernels[:-1]}
    losses, norms, gradient_norms = [], [float(tf.norm(kernels[0]))], []
    for batch in batches:
        with tf.GradientTape() as tape:
            outputs = model(images[batch], training=True)
            each = keras.losses.sparse_categorical_crossentropy(labels[batch], outputs)
            loss = tf.reduce_mean(each)
        gradients = dict(zip(map(id, weights), tape.gradient(loss, weights), strict=True))
        for one in weights:
            one.assign_sub(own.get(id(one), rate) * gradients[id(one)])
        losses.append(float(loss))
        norms.append(float(tf.norm(kernels[0])))
        gradient_norms.append(float(tf.norm(gradients[id(kernels[0])])))
    return Descent(*map(np.array, (losses, norms, gradient_norms)))
