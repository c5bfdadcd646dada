"""What one asks of a network in training beside its loss: gradients, geometry, landscape.

No probe changes the model: weights, moving statistics and random states stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bn_tutorial.networks.backend import keras, tf

#: How `preactivations` describes a distribution: by which quantiles, of how many units of a
#: layer, from how many values of a unit.
QUANTILES = (0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.85, 0.95)
UNITS = 16
VALUES = 4096


def gradient_norms(model: keras.Model, inputs: Any, targets: Any) -> Any:
    """Measure how large the gradient is that reaches each hidden layer.

    The layers are the dense and convolutional ones but for the last (in a recurrent network,
    the projections of its inputs), and h is their output, before normaliser and activation.
    The gradient is ∂(sum of the batch's losses)/∂h, in training mode; with the sum, the batch's
    size is no factor in it.

    Parameters
    ----------
    model : keras.Model
        A network of `bn_tutorial.networks.models.build`.
    inputs : tensor, shape (n, ...)
        The images.
    targets : tensor of integers, shape (n,)
        Their classes.

    Returns
    -------
    tensor, shape (hidden layers,)
        The root mean square over images of the gradient's norm; the first layer first.
    """
    hidden = _affine(model)[:-1]
    outputs = keras.Model(model.inputs[0], [*(layer.output for layer in hidden), *model.outputs])
    with keras.StatelessScope(), tf.GradientTape() as tape:
        *values, predictions = outputs(inputs, training=True)
        loss = tf.reduce_sum(_losses(targets, predictions))
    gradients = tape.gradient(loss, values)
    return tf.stack([tf.norm(gradient) for gradient in gradients]) / inputs.shape[0] ** 0.5


def branches(model: keras.Model, inputs: Any) -> Any:
    """Measure how large residual branches are beside the sums that they are added to.

    Parameters
    ----------
    model : keras.Model
        A residual network of `bn_tutorial.networks.models.build`.
    inputs : tensor, shape (n, ...)
        The images.

    Returns
    -------
    tensor, shape (branches,)
        The ratios of standard deviations, over images and units, in training mode; the first branch
        first.
    """
    adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    outputs = keras.Model(model.inputs[0], [layer.input for layer in adds])
    with keras.StatelessScope():
        pairs = outputs(inputs, training=True)

    def deviation(values: Any) -> Any:
        return tf.sqrt(tf.reduce_mean(tf.math.reduce_variance(values, axis=0)))

    return tf.stack([deviation(branch) / deviation(total) for total, branch in pairs])


def covariate_shift(model: keras.Model, inputs: Any, targets: Any, share: Any) -> dict[str, Any]:
    """Measure by how much a step of the layers before a layer changes its own gradient.

    G is the gradient of the loss of a batch with respect to a layer's kernel, and G' the same
    after all trainable variables of the layers before have gone down their gradient, those of each
    layer by a share of their own length. Both are in training mode, with the same draws where a
    layer draws at random. The step has no learning rate in it: a layer before a normaliser computes
    the same with weights of any length, and a rate that suits one network is long or short for
    another.

    Parameters
    ----------
    model : keras.Model
        A network of `bn_tutorial.networks.models.build`.
    inputs : tensor, shape (n, ...)
        The images.
    targets : tensor of integers, shape (n,)
        Their classes.
    share : float or scalar tensor
        The step's length in each layer, as a share of the length of the layer's variables.

    Returns
    -------
    dict of str to tensor, each of shape (layers with a kernel − 1,)
        ``shift_absolute`` is ‖G − G'‖, ``shift`` is ‖G − G'‖ / ‖G‖ and ``cosine`` is that of
        the angle between them; from the second such layer to the output layer, as there is
        nothing before the first.

    References
    ----------
    Santurkar et al. (2018), How does batch normalization help optimization?, Definition 2.1, there
    with the step that training takes.
    """
    values, owners = _variables(model)
    kernels = [i for i, v in enumerate(model.trainable_variables) if v.name == "kernel"]
    _, before = gradients_at(model, inputs, targets, values)
    slopes = _in_lengths(values, owners, before)
    stepped = [value - share * slope for value, slope in zip(values, slopes, strict=True)]

    def measure(layer: Any) -> Any:
        mixed = [
            tf.where(owner < layer, new, old)
            for owner, new, old in zip(owners, stepped, values, strict=True)
        ]
        _, after = gradients_at(model, inputs, targets, mixed)
        # of all kernels; that of the layer is picked below
        changes = tf.stack([tf.norm(before[i] - after[i]) for i in kernels])
        return changes, tf.stack([_cosine(before[i], after[i]) for i in kernels])

    layers = tf.constant([owners[i] for i in kernels])
    tables = tf.map_fn(measure, layers, fn_output_signature=(tf.float32, tf.float32))
    change, cosine = (tf.linalg.diag_part(table)[1:] for table in tables)
    size = tf.stack([tf.norm(before[i]) for i in kernels[1:]])
    return {"shift": change / size, "shift_absolute": change, "cosine": cosine}


def landscape(
    model: keras.Model,
    inputs: Any,
    targets: Any,
    share: Any,
    steps: Sequence[float] = (1 / 8, 1 / 4, 1 / 2, 3 / 4, 7 / 8, 1),
) -> dict[str, Any]:
    """Look along the gradient: how loss and gradient change over steps of several lengths.

    With weights w and gradient g of the loss of a batch, the loss and the gradient g' are
    computed at w' = w − step · share · d, in training mode, with the same draws where a layer draws
    at random. The direction d is g, made as long in each layer as that layer's variables: as for
    `covariate_shift`, there is no learning rate in it.

    Parameters
    ----------
    model : keras.Model
        Any Keras model that gives class probabilities.
    inputs : tensor, shape (n, ...)
        The images.
    targets : tensor of integers, shape (n,)
        Their classes.
    share : float or scalar tensor
        The length of the longest step in each layer, as a share of the length of its variables.
    steps : sequence of float
        The lengths, in units of that.

    Returns
    -------
    dict of str to scalar tensor
        ``landscape_low`` and ``landscape_high``: the smallest and the largest loss of those at
        w' (not at w). The largest ‖g' − g‖ is ``gradient_change_absolute``, the largest
        ‖g' − g‖ / ‖g‖ ``gradient_change``, and the largest ‖g' − g‖ / ‖w' − w‖, the effective
        smoothness, ``beta``.

    References
    ----------
    Santurkar et al. (2018), How does batch normalization help optimization?, whose effective
    smoothness this is.
    """
    values, owners = _variables(model)
    _, gradients = gradients_at(model, inputs, targets, values)
    slopes = _in_lengths(values, owners, gradients)
    size, length = tf.linalg.global_norm(gradients), tf.linalg.global_norm(slopes)

    def look(distance: Any) -> Any:
        moved = [value - distance * slope for value, slope in zip(values, slopes, strict=True)]
        loss, others = gradients_at(model, inputs, targets, moved)
        change = tf.linalg.global_norm(
            [other - slope for other, slope in zip(others, gradients, strict=True)]
        )
        return tf.stack([loss, change, change / (distance * length)])

    distances = tf.constant(steps, tf.float32) * share
    losses, changes, betas = tf.unstack(
        tf.map_fn(look, distances, fn_output_signature=tf.float32), axis=1
    )
    return {
        "landscape_low": tf.reduce_min(losses),
        "landscape_high": tf.reduce_max(losses),
        "gradient_change": tf.reduce_max(changes) / size,
        "gradient_change_absolute": tf.reduce_max(changes),
        "beta": tf.reduce_max(betas),
    }


def preactivations(model: keras.Model, inputs: Any) -> dict[str, Any]:
    """Describe the distribution of what enters each hidden layer's activation.

    It is over the images (and a convolution's pixels), unit by unit, in training mode.

    Parameters
    ----------
    model : keras.Model
        A network of `bn_tutorial.networks.models.build`, dense or convolutional.
    inputs : tensor, shape (n, ...)
        The images; always the same ones if distributions are to be compared.

    Returns
    -------
    dict of str to tensor
        ``mean`` and ``deviation``, shape (hidden layers,): each unit's absolute mean and
        standard deviation, averaged over all units. ``quantiles``, shape
        (hidden layers × `UNITS` × len(`QUANTILES`),): those of units that are evenly
        spread over the layer, layer by layer and unit by unit; a layer of fewer units counts
        some twice. Of more than `VALUES` values of a unit, as many, always the same ones, make
        the quantiles.
    """
    kind = keras.layers.Activation
    activations = [layer for layer in model.layers if isinstance(layer, kind)]
    before = keras.Model(model.inputs[0], [layer.input for layer in activations])
    with keras.StatelessScope():
        outputs = tf.nest.flatten(before(inputs, training=True))
    means, deviations, quantiles = [], [], []
    for output in outputs:
        values = tf.reshape(output, (-1, output.shape[-1]))
        mean, variance = tf.nn.moments(values, axes=0)
        means.append(tf.reduce_mean(tf.abs(mean)))
        deviations.append(tf.reduce_mean(tf.sqrt(variance)))
        units = np.linspace(0, values.shape[1] - 1, UNITS).astype(np.int32)
        rows = np.random.default_rng(0).permutation(values.shape[0])[:VALUES]
        chosen = tf.gather(tf.gather(values, units, axis=1), rows)
        quantiles.append(tf.reshape(tf.transpose(_quantiles(chosen)), [-1]))
    return {
        "mean": tf.stack(means),
        "deviation": tf.stack(deviations),
        "quantiles": tf.concat(quantiles, axis=0),
    }


def weight_geometry(model: keras.Model, inputs: Any, targets: Any) -> dict[str, Any]:
    """Measure each hidden kernel w, its gradient g and the angle between the two.

    Parameters
    ----------
    model : keras.Model
        A network of `bn_tutorial.networks.models.build`.
    inputs : tensor, shape (n, ...)
        The images of the batch whose loss, in training mode, has the gradient g.
    targets : tensor of integers, shape (n,)
        Their classes.

    Returns
    -------
    dict of str to tensor, each of shape (hidden layers,)
        ``norm`` is ‖w‖, ``gradient_norm`` is ‖g‖, and ``alignment`` is ⟨w, g⟩ / (‖w‖ ‖g‖), which
        is 0 where the loss does not depend on the scale of w.

    References
    ----------
    van Laarhoven (2017), L2 regularization versus batch and weight normalization; Arora,
    Li & Lyu (2019), Theoretical analysis of auto rate-tuning by batch normalization, Lemma 2.4.
    """
    values, _ = _variables(model)
    _, gradients = gradients_at(model, inputs, targets, values)
    hidden = [i for i, v in enumerate(model.trainable_variables) if v.name == "kernel"][:-1]
    return {
        "norm": tf.stack([tf.norm(values[i]) for i in hidden]),
        "gradient_norm": tf.stack([tf.norm(gradients[i]) for i in hidden]),
        "alignment": tf.stack([_cosine(values[i], gradients[i]) for i in hidden]),
    }


def _affine(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers with a kernel: the dense and the convolutional ones."""
    return [
        layer
        for layer in model.layers
        if any(variable.name == "kernel" for variable in layer.trainable_variables)
    ]


def _variables(model: keras.Model) -> tuple[list[Any], list[int]]:
    """Return the values of the trainable variables, and for each the position of its layer."""
    owners = [
        position for position, layer in enumerate(model.layers) for _ in layer.trainable_variables
    ]
    return [tf.convert_to_tensor(variable) for variable in model.trainable_variables], owners


def _losses(targets: Any, predictions: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(targets, predictions)


def gradients_at(
    model: keras.Model, inputs: Any, targets: Any, values: list[Any]
) -> tuple[Any, list[Any]]:
    """Return the mean loss, and its gradients, with `values` for the trainable variables.

    Parameters
    ----------
    model, inputs, targets
        As in `landscape`.
    values : list of tensor
        For each variable, in order; the gradients, in training mode, have their shapes.
    """
    with tf.GradientTape() as tape:
        tape.watch(values)
        mapping = list(zip(model.trainable_variables, values, strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            predictions = model(inputs, training=True)
        loss = tf.reduce_mean(_losses(targets, predictions))
    return loss, tape.gradient(loss, values)


def _in_lengths(values: list[Any], owners: list[int], gradients: list[Any]) -> list[Any]:
    """Return gradients that are, in each layer, as long as the layer's variables."""

    def norm(tensors: list[Any], layer: int) -> Any:
        return tf.linalg.global_norm(
            [one for one, owner in zip(tensors, owners, strict=True) if owner == layer]
        )

    factors = {
        layer: tf.math.divide_no_nan(norm(values, layer), norm(gradients, layer))
        for layer in set(owners)
    }
    return [slope * factors[owner] for slope, owner in zip(gradients, owners, strict=True)]


def _cosine(one: Any, other: Any) -> Any:
    return tf.reduce_sum(one * other) / (tf.norm(one) * tf.norm(other))


def _quantiles(values: Any) -> Any:
    """Return the `QUANTILES` along the first axis, interpolated linearly."""
    positions = np.array(QUANTILES) * (values.shape[0] - 1)
    lower = np.minimum(positions.astype(np.int32), values.shape[0] - 1)
    upper = np.minimum(lower + 1, values.shape[0] - 1)
    share = (positions - lower).astype(np.float32)[:, None]
    ranked = tf.sort(values, axis=0)
    return (1 - share) * tf.gather(ranked, lower) + share * tf.gather(ranked, upper)
