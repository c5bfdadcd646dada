"""The recurrence: Keras's GRU, and what normalises the transition from state to state."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial import Recipe, build
from bn_tutorial.networks import batch_norms, population_statistics, with_statistics
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.recurrent import SMALL_SCALE, ProjectedGRU
from tests.test_layers import numbers


@pytest.mark.parametrize("sequences", [False, True])
def test_a_projection_and_the_recurrence_are_keras_gru(sequences: bool) -> None:
    values = tf.constant(numbers(3, 6, 4) / 4)
    gru = keras.layers.GRU(5, return_sequences=sequences)
    gru.build(values.shape)
    kernel, recurrent, bias = (numbers(*w.shape, seed=i) / 4 for i, w in enumerate(gru.weights))
    gru.set_weights([kernel, recurrent, bias])
    dense = keras.layers.Dense(15)
    ours = keras.Sequential([dense, ProjectedGRU(5, return_sequences=sequences)])
    ours.build(values.shape)
    ours.set_weights([kernel, bias[0], recurrent, bias[1]])
    results = []
    for layer in (gru, ours):
        with tf.GradientTape() as tape:
            outputs = layer(values)
            loss = tf.reduce_sum(outputs * numbers(*outputs.shape, seed=9))
        results.append([outputs, *tape.gradient(loss, layer.trainable_variables)])
    outputs, *gradients = results[1]
    reference = [gradients[0], gradients[2], tf.stack([gradients[1], gradients[3]])]
    for one, another in zip(results[0], [outputs, *reference], strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-4, atol=1e-5)


def test_inputs_that_were_not_projected_are_refused() -> None:
    with pytest.raises(ValueError, match="the projected inputs have 4 features, not 15"):
        ProjectedGRU(5).build((None, 6, 4))


def by_hand(layer: ProjectedGRU, inputs: Any, moments: Any) -> tuple[Any, list[Any]]:
    """Return the last state in double precision, and the products h·U of every step."""
    kernel, bias, gamma = (w.astype(float) for w in layer.get_weights()[:3])
    state, products = np.zeros((len(inputs), layer.units)), []
    for step, row in enumerate(inputs.astype(float).swapaxes(0, 1)):
        products.append(product := state @ kernel)
        mean, variance = moments(product, step)
        recurrent = (product - mean) / np.sqrt(variance + 1e-3) * gamma + bias
        ours, theirs = np.split(row, 3, axis=1), np.split(recurrent, 3, axis=1)
        update, reset = (
            1 / (1 + np.exp(-a - b)) for a, b in zip(ours[:2], theirs[:2], strict=True)
        )
        state = update * state + (1 - update) * np.tanh(ours[2] + reset * theirs[2])
    return state, products


def layer_of(norm: str) -> tuple[ProjectedGRU, Any]:
    """Return a layer with weights of its own, and its inputs."""
    layer, inputs = ProjectedGRU(5, norm=norm), numbers(7, 6, 15) / 4
    layer.build(inputs.shape)
    kernel, bias, gamma, *moving = layer.get_weights()
    assert np.all(gamma == (SMALL_SCALE if norm == "batch" else 1))
    own = [numbers(*w.shape, seed=n) / 4 for n, w in enumerate((kernel, bias, gamma))]
    layer.set_weights([*own, *moving])
    return layer, inputs


def test_layer_normalisation_of_the_transition_is_that_of_each_example() -> None:
    layer, inputs = layer_of("layer")

    def moments(product: Any, _: int) -> tuple[Any, Any]:
        return product.mean(1, keepdims=True), product.var(1, keepdims=True)

    state, _ = by_hand(layer, inputs, moments)
    for training in (True, False):
        np.testing.assert_allclose(layer(inputs, training=training), state, rtol=1e-3, atol=1e-5)
    assert not batch_norms(keras.Sequential([keras.Input((6, 15)), layer]))


def test_batch_normalisation_of_the_transition_is_that_of_each_step() -> None:
    layer, inputs = layer_of("batch")
    state, products = by_hand(layer, inputs, lambda one, _: (one.mean(0), one.var(0)))
    np.testing.assert_allclose(layer(inputs, training=True), state, rtol=1e-3, atol=1e-5)
    moving = [np.zeros((6, 15)), np.ones((6, 15))]
    for found, start, batch in zip(
        (layer.moving_mean, layer.moving_variance),
        moving,
        ([one.mean(0) for one in products], [one.var(0) for one in products]),
        strict=True,
    ):
        expected = 0.99 * start + 0.01 * np.array(batch)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    state, _ = by_hand(layer, inputs, lambda _, step: (mean[step], variance[step]))
    np.testing.assert_allclose(layer(inputs, training=False), state, rtol=1e-3, atol=1e-5)


def test_population_statistics_of_all_images_reproduce_training_on_them() -> None:
    recipe = Recipe(
        model="gru", width=4, norm="batch", norm_options={"per_step": True, "recurrent": True}
    )
    model = build(recipe, shape=(6, 4, 3))
    images = tf.constant(numbers(40, 6, 4, 3))
    statistics = population_statistics(model, lambda indices: tf.gather(images, indices), 40)
    assert [mean.shape for mean, _ in statistics] == [(72,), (6, 12)]
    np.testing.assert_allclose(
        with_statistics(model, images, statistics), model(images, training=True), rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_a_normalised_recurrence_compiles_with_its_gradient_and_loads(
    norm: Any, tmp_path: Path
) -> None:
    recipe = Recipe(model="gru", width=4, depth=2, norm=norm, norm_options={"recurrent": True})
    model = build(recipe, shape=(6, 4, 3))
    images = tf.constant(numbers(8, 6, 4, 3))

    def gradients() -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True)[:, 0])
        return tape.gradient(loss, model.trainable_variables)

    compiled = tf.function(gradients, jit_compile=True, autograph=False)
    for one, another in zip(compiled(), gradients(), strict=True):
        np.testing.assert_allclose(one, another, rtol=1e-3, atol=1e-5)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-5)
