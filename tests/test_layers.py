from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.backend import keras, tf
from bn_tutorial.layers import GhostBatchNormalization, normalization
from bn_tutorial.models import build
from bn_tutorial.recipe import MODELS, NORMS, Recipe

ALLOWED = [(model, norm) for model in MODELS for norm in NORMS if (model, norm) not in
           {("mlp", "instance"), ("gru", "instance")}]  # fmt: skip
SHAPES = [(12, 5), (12, 3, 4, 5)]
CHANGED = {
    "momentum": 0.5,
    "epsilon": 0.25,
    "center": False,
    "scale": False,
    "groups": 2,
    "size": 4,
}


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)


def plain(values: Any) -> Any:
    """Normalise by hand over all axes but the last."""
    axes = tuple(range(values.ndim - 1))
    return (values - values.mean(axes)) / np.sqrt(values.var(axes) + 1e-3)


# The factory


@pytest.mark.parametrize(("model", "norm"), ALLOWED)
def test_every_normaliser_works_in_every_model_that_allows_it(model: str, norm: str) -> None:
    recipe = Recipe(model=model, norm=norm, width=16, batch_size=4)
    network = build(recipe, shape=(4, 4, 3), classes=3)
    probabilities = network(numbers(4, 4, 4, 3), training=True).numpy()
    assert probabilities.shape == (4, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert type(normalization(norm)) in [type(layer) for layer in network.layers]


@pytest.mark.parametrize(
    ("norm", "option"), [(n, o) for n, options in NORMS.items() for o in options]
)
def test_every_option_reaches_the_layer(norm: str, option: str) -> None:
    layer = normalization(norm, **{option: CHANGED[option]})
    assert layer.get_config()[option] == CHANGED[option]
    assert normalization(norm).get_config()[option] != CHANGED[option]
    assert layer(numbers(4, 2, 2, 8), training=True).shape == (4, 2, 2, 8)


def test_each_normaliser_averages_over_what_it_should() -> None:
    values = numbers(6, 4, 5, 16)
    axes: dict[str, tuple[int, ...]] = {
        "batch": (0, 1, 2),
        "ghost": (0, 1, 2),
        "layer": (3,),  # Keras normalises over the last axis alone
        "instance": (1, 2),
    }
    for norm, over in axes.items():
        outputs = normalization(norm)(values, training=True).numpy()
        np.testing.assert_allclose(outputs.mean(over), 0, atol=1e-5, err_msg=norm)
        np.testing.assert_allclose(outputs.var(over), 1, atol=1e-3, err_msg=norm)
    groups = normalization("group")(values).numpy().reshape(6, 4, 5, 8, 2)
    np.testing.assert_allclose(groups.mean((1, 2, 4)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var((1, 2, 4)), 1, atol=1e-3)


def test_renorm_is_batch_renormalisation() -> None:
    layer = normalization("renorm")
    values = numbers(12, 5)
    # with moving statistics of 0 and 1 at the start, r and d undo the normalisation
    np.testing.assert_allclose(layer(values, training=True), values, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("name", ["batchnorm", "", "Batch", "None"])
def test_an_unknown_normaliser_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"there is no normaliser '{name}': choose ") as refusal:
        normalization(name)
    assert all(norm in str(refusal.value) for norm in NORMS)


# Ghost batches


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [12, None])
def test_one_ghost_is_batch_normalisation(size: int | None, shape: tuple[int, ...]) -> None:
    results = []
    for layer in (
        GhostBatchNormalization(size, momentum=0.8),
        keras.layers.BatchNormalization(momentum=0.8),
    ):
        layer.build(shape)
        layer.gamma.assign(numbers(5, seed=1))
        layer.beta.assign(numbers(5, seed=2))
        inputs = tf.constant(numbers(*shape))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs * numbers(*shape, seed=3))
        gradients = tape.gradient(loss, [inputs, layer.gamma.value, layer.beta.value])
        results.append([outputs, *gradients, layer.moving_mean, layer.moving_variance])
    names = ("outputs", "inputs", "gamma", "beta", "moving mean", "moving variance")
    for name, ghost, batch in zip(names, *results, strict=True):
        np.testing.assert_allclose(ghost, batch, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 4, 5, 7, 20])
def test_each_ghost_is_normalised_by_itself(size: int, shape: tuple[int, ...]) -> None:
    layer = GhostBatchNormalization(size, momentum=0.75)
    values = numbers(*shape)
    parts = [values[start : start + size] for start in range(0, len(values), size)]
    outputs = layer(values, training=True)
    np.testing.assert_allclose(outputs, np.concatenate([plain(p) for p in parts]), atol=1e-4)
    shares = [len(part) / len(values) for part in parts]
    axes = tuple(range(values.ndim - 1))
    mean = sum(share * part.mean(axes) for share, part in zip(shares, parts, strict=True))
    variance = sum(share * part.var(axes) for share, part in zip(shares, parts, strict=True))
    np.testing.assert_allclose(layer.moving_mean, 0.25 * mean, rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, 0.75 + 0.25 * variance, rtol=1e-5)


def test_a_ghost_knows_nothing_of_the_others() -> None:
    layer = GhostBatchNormalization(4)
    values = numbers(12, 5)
    before = layer(values, training=True).numpy()
    values[5] += 100
    after = layer(values, training=True).numpy()
    changed = (before != after).any(axis=1)
    assert list(changed) == [False] * 4 + [True] * 4 + [False] * 4


def test_without_scale_and_center() -> None:
    layer = GhostBatchNormalization(6, scale=False, center=False)
    values = numbers(12, 5)
    outputs = layer(values, training=True)
    np.testing.assert_allclose(outputs[6:], plain(values[6:]), atol=1e-5)
    assert len(layer.weights) == 2


def test_inference_is_plain_batch_normalisation() -> None:
    ghost, batch = GhostBatchNormalization(4), keras.layers.BatchNormalization()
    values = numbers(12, 5)
    ghost(values, training=True)
    batch.build(values.shape)
    batch.set_weights(ghost.get_weights())
    trained = ghost.get_weights()
    for training in (False, None):
        np.testing.assert_array_equal(ghost(values, training=training), batch(values))
    ghost.trainable = False  # by Keras's rule, a frozen layer is in inference mode
    np.testing.assert_array_equal(ghost(values, training=True), batch(values))
    for now, then in zip(ghost.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(now, then)


def test_an_unknown_batch_size_is_an_error_that_says_what_to_do() -> None:
    anything = tf.TensorSpec((None, 5))

    def compiled(layer: Any, signature: Any) -> Any:
        return tf.function(lambda inputs: layer(inputs, training=True), [signature])

    with pytest.raises(ValueError, match="ghost batch normalisation needs a fixed batch size"):
        compiled(GhostBatchNormalization(4), anything)(numbers(8, 5))
    for layer, signature in (
        (GhostBatchNormalization(4), tf.TensorSpec((8, 5))),
        (GhostBatchNormalization(), anything),
    ):
        assert compiled(layer, signature)(numbers(8, 5)).shape == (8, 5)


def test_half_precision_keeps_its_type() -> None:
    layer = GhostBatchNormalization(4, dtype="mixed_float16")
    outputs = layer(numbers(12, 5).astype(np.float16), training=True)
    assert outputs.dtype == tf.float16
    assert layer.moving_mean.dtype == "float32"


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
def test_a_model_with_ghosts_survives_saving(tmp_path: Path) -> None:
    values = numbers(12, 5)
    layers = [keras.Input((5,), batch_size=12), GhostBatchNormalization(4, momentum=0.5)]
    model = keras.Sequential(layers)
    model(values, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0], GhostBatchNormalization)
    assert (loaded.layers[0].size, loaded.layers[0].momentum) == (4, 0.5)
    for training in (False, True):
        np.testing.assert_array_equal(
            loaded(values, training=training), model(values, training=training)
        )
