from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bn_tutorial.backend import keras, tf
from bn_tutorial.layers import GhostBatchNormalization
from bn_tutorial.models import build
from bn_tutorial.probes import (
    batch_norms,
    population_statistics,
    sum_over_batches,
    with_statistics,
)
from bn_tutorial.recipe import Recipe

SHAPE = (4, 4, 3)
COUNT = 70
IMAGES = np.random.default_rng(0).random((100, *SHAPE)).astype(np.float32)


def feed(indices: Any) -> Any:
    return tf.gather(IMAGES, indices)


def flat(count: int) -> Any:
    return IMAGES[:count].reshape(count, -1).astype(np.float64)


def on_the_inputs(layer: Any) -> Any:
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), layer])


def trained(recipe: Recipe) -> Any:
    """Return a network whose weights and moving statistics are no longer those of the start."""
    model = build(recipe, 1, shape=SHAPE, classes=3)
    random = np.random.default_rng(2)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))
    return model


def snapshot(model: Any) -> list[Any]:
    return [variable.numpy().copy() for variable in model.variables]


def by_hand(model: Any, count: int, batch_size: int) -> list[tuple[Any, Any]]:
    """Compute the statistics of an mlp's normalisers with NumPy, without its dropout."""
    kernels = [
        layer.get_weights() for layer in model.layers if isinstance(layer, keras.layers.Dense)
    ]
    norms = batch_norms(model)
    sums = [[0.0, 0.0] for _ in norms]
    for start in range(0, count, batch_size):
        values = flat(count)[start : start + batch_size]
        share = len(values) / count
        for (kernel, bias), norm, total in zip(kernels, norms, sums, strict=False):
            values = values @ kernel.astype(np.float64) + bias
            mean, variance = values.mean(axis=0), values.var(axis=0)
            total[0] += share * mean
            total[1] += share * (mean**2 + variance)
            values = (values - mean) / np.sqrt(variance + norm.epsilon)
            values = np.maximum(values * norm.gamma.numpy() + norm.beta.numpy(), 0)
    return [(mean, square - mean**2) for mean, square in sums]


def agree(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    assert len(found) == len(expected)
    for pair, other in zip(found, expected, strict=True):
        for one, another in zip(pair, other, strict=True):
            np.testing.assert_allclose(one, another, rtol=rtol)


# Population statistics


@pytest.mark.parametrize(
    ("count", "batch_size"), [(60, 20), (70, 32), (70, 69), (100, 1000), (1, 5)]
)
def test_on_the_inputs_they_are_the_datas_own(count: int, batch_size: int) -> None:
    model = on_the_inputs(keras.layers.BatchNormalization())
    ((mean, variance),) = population_statistics(model, feed, count, batch_size)
    np.testing.assert_allclose(mean, flat(count).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, flat(count).var(axis=0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("start", [0.0, 1e3])
def test_momentum_and_moving_statistics_do_not_matter(momentum: float, start: float) -> None:
    model = on_the_inputs(keras.layers.BatchNormalization(momentum=momentum))
    model.layers[-1].moving_mean.assign(np.full(48, start, np.float32))
    model.layers[-1].moving_variance.assign(np.full(48, start + 1, np.float32))
    ((mean, variance),) = population_statistics(model, feed, COUNT, 32)
    np.testing.assert_allclose(mean, flat(COUNT).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, flat(COUNT).var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("norm", ["batch", "ghost", "renorm"])
def test_those_of_deeper_layers_are_computed_layer_by_layer(norm: str, dropout: float) -> None:
    recipe = Recipe(norm=norm, width=6, depth=2, dropout=dropout, batch_size=8)
    if norm == "ghost":
        recipe = recipe.but(norm_options={"size": 4})
    model = trained(recipe)
    expected = by_hand(model, COUNT, 32)
    assert len(expected) == 2
    agree(population_statistics(model, feed, COUNT, 32), expected, rtol=5e-5)


def test_they_are_the_same_in_a_compiled_function() -> None:
    model = trained(Recipe(norm="batch", width=6, depth=2))
    compiled = tf.function(lambda: population_statistics(model, feed, COUNT, 32))
    # E[x²] − E[x]² loses some digits, as the mean here is up to 10 standard deviations
    agree(compiled(), population_statistics(model, feed, COUNT, 32), rtol=5e-5)


@pytest.mark.parametrize("norm", ["batch", "ghost", "renorm"])
def test_nothing_in_the_model_changes(norm: str) -> None:
    options = {"size": 4} if norm == "ghost" else {}
    recipe = Recipe(norm=norm, norm_options=options, width=6, depth=2, dropout=0.5, batch_size=8)
    model = trained(recipe)
    before = snapshot(model)
    assert any(len(array) == 2 for array in before)  # the states of the dropout layers
    statistics = population_statistics(model, feed, COUNT, 32)
    with_statistics(model, IMAGES, statistics)
    for then, now in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(then, now)
    dropouts = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropouts] == [0.5, 0.5]
    for layer in batch_norms(model):
        assert layer.renorm == (norm == "renorm")
        assert getattr(layer, "size", None) == options.get("size")


def test_dropout_and_ghosts_come_back_after_an_error() -> None:
    recipe = Recipe(norm="ghost", norm_options={"size": 4}, width=6, dropout=0.5, batch_size=8)
    model = trained(recipe)

    def broken(_: Any) -> Any:
        raise RuntimeError("no images")

    with pytest.raises(RuntimeError, match="no images"):
        population_statistics(model, broken, COUNT, 32)
    assert batch_norms(model)[0].size == 4
    assert model.layers[-2].rate == 0.5


def test_ghost_layers_are_measured_over_the_whole_batch() -> None:
    model = on_the_inputs(GhostBatchNormalization(5))
    # with ghosts of 5 the mean of the variances would be smaller by a fifth
    ((_, variance),) = population_statistics(model, feed, 70, 70)
    np.testing.assert_allclose(variance, flat(70).var(axis=0), rtol=1e-5)


def test_a_model_without_batch_normalisation_has_none() -> None:
    model = build(Recipe(norm="layer", width=6), shape=SHAPE)
    assert batch_norms(model) == []
    assert population_statistics(model, feed, COUNT, 32) == []


def test_batch_norms_are_found_in_order() -> None:
    layers = [
        keras.layers.BatchNormalization(),
        keras.layers.LayerNormalization(),
        GhostBatchNormalization(4),
        keras.layers.Dense(3),
        keras.layers.BatchNormalization(renorm=True),
    ]
    found = batch_norms(keras.Sequential([keras.Input((4,)), *layers]))
    assert found == [layers[0], layers[2], layers[4]]


# Statistics in place of the moving ones


def test_given_statistics_count_as_moving_ones() -> None:
    model = trained(Recipe(norm="batch", width=6, depth=2, dropout=0.5))
    statistics = population_statistics(model, feed, COUNT, 32)
    found = with_statistics(model, IMAGES, statistics)
    assert not np.allclose(found, model(IMAGES), atol=1e-3)
    for layer, (mean, variance) in zip(batch_norms(model), statistics, strict=True):
        layer.moving_mean.assign(mean)
        layer.moving_variance.assign(variance)
    np.testing.assert_array_equal(found, model(IMAGES))


def test_each_layer_needs_its_statistics() -> None:
    model = trained(Recipe(norm="batch", width=6, depth=2))
    statistics = population_statistics(model, feed, COUNT, 32)
    for wrong in (statistics[:1], statistics + statistics[:1]):
        with pytest.raises(ValueError, match="zip"):
            with_statistics(model, IMAGES, wrong)


# Sums over batches


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(12, 4, [4]), (10, 4, [4, 2]), (3, 4, [3]), (4, 4, [4]), (5, 1, [1])],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_a_sum_over_batches_takes_every_image_once(
    count: int, size: int, sizes: list[int], compiled: bool
) -> None:
    order = np.random.default_rng(0).permutation(count).astype(np.int32)
    seen = []

    def step(indices: Any) -> Any:
        seen.append(indices.shape[0])
        return {"squares": tf.reduce_sum(indices**2), "calls": 1.0}

    def total() -> Any:
        zero = {"squares": 0, "calls": 0.0}
        return sum_over_batches(step, zero, tf.constant(order), size)

    found = (tf.function(total) if compiled else total)()
    assert found["squares"] == sum(number**2 for number in range(count))
    assert found["calls"] == -(-count // size)
    assert list(dict.fromkeys(seen)) == sizes
