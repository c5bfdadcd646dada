"""The layer from scratch against Keras's, and against finite differences."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.scratch.layer import BatchNorm

from .batches import Array, Case, batch, cases, epsilons, examples

options = st.fixed_dictionaries(
    {
        "epsilon": epsilons,
        "momentum": st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
        "center": st.booleans(),
        "scale": st.booleans(),
    }
)


def layer(kind: Any, case: Case, options: dict[str, Any]) -> Any:
    made = kind(axis=case.axis, dtype=str(case.x.dtype), **options)
    made.build(case.x.shape)
    for name, value in (("scale", "gamma"), ("center", "beta")):
        if options[name]:
            getattr(made, value).assign(getattr(case, value))
    return made


def both(case: Case, options: dict[str, Any]) -> tuple[Any, Any]:
    return layer(BatchNorm, case, options), layer(keras.layers.BatchNormalization, case, options)


@examples
@given(cases("float32"), options)
def test_forward_is_that_of_keras(case: Case, options: dict[str, Any]) -> None:
    ours, theirs = both(case, options)
    for _ in range(3):
        x = batch(case.rng, case.x.shape, case.axis, "float32")
        np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-6)
    np.testing.assert_allclose(ours.moving_mean, theirs.moving_mean, atol=1e-6)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-6)
    np.testing.assert_allclose(ours(x), theirs(x), atol=1e-6)


@examples
@given(cases("float32"), options)
def test_gradients_are_those_of_keras(case: Case, options: dict[str, Any]) -> None:
    x, dy = tf.constant(case.x), tf.constant(case.rng.normal(size=case.x.shape), "float32")
    found = []
    for one in both(case, options):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = one(x, training=True)
        learned = [variable.value for variable in one.trainable_variables]
        found.append(tape.gradient(y, [x, *learned], output_gradients=dy))
    assert len(found[0]) == 1 + options["center"] + options["scale"]
    for ours, theirs in zip(*found, strict=True):
        size = float(tf.reduce_max(tf.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * size + 1e-6)


@examples
@given(cases("float64"), options)
def test_gradients_agree_with_finite_differences(case: Case, options: dict[str, Any]) -> None:
    ours, h = layer(BatchNorm, case, options), 1e-5
    dy, direction = (case.rng.normal(size=case.x.shape) for _ in range(2))
    direction /= np.linalg.norm(direction)

    def loss(x: Any) -> Any:
        return tf.reduce_sum(dy * ours(x, training=True))

    x = tf.constant(case.x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = loss(x)
    slope = (loss(x + h * direction) - loss(x - h * direction)) / (2 * h)
    along = tf.reduce_sum(tape.gradient(value, x) * direction)
    assert float(along) == pytest.approx(float(slope), rel=0, abs=1e-6)


@pytest.mark.parametrize("kind", [BatchNorm, keras.layers.BatchNormalization])
def test_a_frozen_layer_is_in_inference_mode(kind: Any) -> None:
    x: Array = np.random.default_rng(0).normal(3, 2, (8, 4)).astype("float32")
    frozen = kind(trainable=False)
    np.testing.assert_allclose(frozen(x, training=True), x / np.sqrt(1.001), rtol=1e-6)
    np.testing.assert_array_equal(frozen.moving_mean, np.zeros(4))


def test_both_learn_the_same() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (256, 5)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("float32")
    losses = []
    for kind in (BatchNorm, keras.layers.BatchNormalization):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [keras.Input((5,)), keras.layers.Dense(16), kind(), keras.layers.ReLU(),
             keras.layers.Dense(1, activation="sigmoid")]
        )  # fmt: skip
        model.compile(keras.optimizers.SGD(0.1), "binary_crossentropy", jit_compile=False)
        history = model.fit(x, y, epochs=3, verbose=0, validation_data=(x, y), shuffle=False)
        losses.append(history.history["loss"] + history.history["val_loss"])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][2] < losses[0][0]
