"""Compare a model with a copy that should answer alike."""

from __future__ import annotations

from typing import Any

import numpy as np

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.feeding import fed, passing
from bn_tutorial.networks.passes import fixed_batch, rest

#: How far the outputs of a copy may be from the model's, as a share of the largest.
ROUNDING = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}
#: By so much, relative to themselves, inputs are nudged to see how rounding grows in a model; and the
#: share of the largest answer by which it may at most change these.
NUDGE, LEAST_SURE = 1e-6, 0.2


def check_same(model: keras.Model, new: keras.Model, images: Any = None) -> None:
    """Check that a copy of a model answers as the model does.

    Parameters
    ----------
    model, new : keras.Model
        The model and what should answer alike, in inference mode.
    images : as `fit` would take them, optional
        What both are asked; random numbers where nothing is given.

    Raises
    ------
    ValueError
        If it does not, beyond rounding; or rounding matters so much that nobody can tell.
    """
    if images is None:
        taken = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        inputs = keras.tree.map_structure(_random, taken)
    else:
        given = fed(model, images, most=fixed_batch(model) or 16)
        inputs = given.at(np.arange(len(given)))
    try:
        with passing():
            cases = (model, inputs), (new, inputs), (model, _nudged(inputs))
            answers = [_answer(one, given) for one, given in cases]
    except ValueError as error:
        if images is None:
            raise ValueError(
                "random inputs do not fit the model: give images to compare on."
            ) from error
        raise
    rough = max(ROUNDING.get(layer.compute_dtype, 0) for layer in model._flatten_layers())
    for outputs in zip(*answers, strict=True):
        one, other, nudged = (np.asarray(tf.cast(part, tf.float64)) for part in outputs)
        largest = max(float(np.abs(one).max(initial=0)), 1e-6)
        # rounding may grow on its way through a deep network, as a nudge does
        allowed = max(rough * largest, float(np.abs(one - nudged).max(initial=0)))
        if allowed > LEAST_SURE * largest:
            raise ValueError(
                f"the answers of the model {model.name!r} change by {allowed / largest:.0%} if its inputs "
                "change in their last digits: no copy can be compared with it."
            )
        if not np.allclose(one, other, rtol=0, atol=allowed, equal_nan=True):
            raise ValueError(
                f"a copy of the model {model.name!r} does not answer as it does, by up to "
                f"{np.abs(one - other).max():.2g}: something in it is neither in its weights nor in its "
                "configuration."
            )


def _nudged(inputs: Any) -> Any:
    """Return inputs with other last digits, where they have such."""
    random = np.random.default_rng(0)

    def nudge(part: Any) -> Any:
        part = np.asarray(part)
        if part.dtype.kind != "f":
            return part
        return part * (1 + NUDGE * random.choice([-1, 1], part.shape)).astype(part.dtype)

    return keras.tree.map_structure(nudge, inputs)


def _answer(model: keras.Model, inputs: Any) -> list[Any]:
    rest(model)
    answers: list[Any] = keras.tree.flatten(model(inputs, training=False))
    return answers


def _random(tensor: Any) -> Any:
    """Return random inputs for a model: numbers, whole numbers, or words."""
    random = np.random.default_rng(0)
    shape = (tensor.shape[0] or 4, *(one or 32 for one in tensor.shape[1:]))
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    if dtype == "string":
        return tf.constant(random.choice(["a", "b", "c"], shape))
    if "int" in dtype or dtype == "bool":
        return random.integers(0, 2, shape).astype(dtype)
    return tf.cast(random.normal(size=shape), dtype)
