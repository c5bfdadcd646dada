from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.layers import GhostBatchNormalization
from bn_tutorial.networks.models import build
from bn_tutorial.networks.recalibration import recalibrate
from bn_tutorial.networks.statistics import (
    batch_norms,
    batch_statistics,
    merged,
    over_batches,
    population_statistics,
    sum_over_batches,
    with_statistics,
)
from bn_tutorial.recipe import NORMALISERS, Recipe
from tests.networks import IMAGES, SHAPE, flat, snapshot, trained

COUNT = 70
MOVING = [name for name, row in NORMALISERS.items() if row.moving]


def feed(indices: Any) -> Any:
    return tf.gather(IMAGES, indices)


def on_the_inputs(layer: Any) -> Any:
    return keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), layer])


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
            values = values - mean if getattr(norm, "mean", True) else values
            if getattr(norm, "variance", True):
                values = values / np.sqrt(variance + norm.epsilon)
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
@pytest.mark.parametrize(
    ("norm", "options"),
    [
        *((norm, {"size": 4} if norm == "ghost" else {}) for norm in MOVING),
        *(("partial", {part: False}) for part in ("mean", "variance")),
    ],
)
def test_those_of_deeper_layers_are_computed_layer_by_layer(
    norm: Any, options: dict[str, float], dropout: float
) -> None:
    recipe = Recipe(
        norm=norm, norm_options=options, width=6, depth=2, dropout=dropout, batch_size=8
    )
    model = trained(recipe)
    expected = by_hand(model, COUNT, 32)
    assert len(expected) == 2
    agree(population_statistics(model, feed, COUNT, 32), expected, rtol=5e-5)


def test_they_are_the_same_in_a_compiled_function() -> None:
    model = trained(Recipe(norm="batch", width=6, depth=2))
    compiled = tf.function(lambda: population_statistics(model, feed, COUNT, 32))
    agree(compiled(), population_statistics(model, feed, COUNT, 32), rtol=1e-5)


@pytest.mark.parametrize("norm", MOVING)
def test_nothing_in_the_model_changes(norm: Any) -> None:
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
        assert getattr(layer, "noise", True)


def test_dropout_and_ghosts_come_back_after_an_error() -> None:
    recipe = Recipe(norm="ghost", norm_options={"size": 4}, width=6, dropout=0.5, batch_size=8)
    model = trained(recipe)

    def broken(_: Any) -> Any:
        raise RuntimeError("no images")

    with pytest.raises(RuntimeError, match="no images"):
        population_statistics(model, broken, COUNT, 32)
    assert batch_norms(model)[0].size == 4
    assert model.layers[-2].rate == 0.5


@pytest.mark.parametrize("jit", [None, False, True])
@pytest.mark.parametrize("ratio", [1e2, 1e4])
def test_no_digits_cancel_where_means_are_large(ratio: float, jit: bool | None) -> None:
    # sorted, so that batches differ; in 32 bits E[x²] − E[x]² has no digit left
    std = np.array([0.5, 1.0, 2.0])
    x = std * (ratio + np.sort(np.random.default_rng(0).normal(size=(1000, 3)), axis=0))
    x = x.astype(np.float32)
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])

    def compute() -> Any:
        return population_statistics(model, lambda indices: tf.gather(x, indices), 1000, 100)

    (found,) = (compute if jit is None else tf.function(compute, jit_compile=jit))()
    recalibrate(model, x, batch_size=100)
    moving = model.layers[0].moving_mean, model.layers[0].moving_variance
    for mean, variance in (found, moving):
        np.testing.assert_allclose(mean, x.mean(axis=0, dtype=float), rtol=2e-7)
        np.testing.assert_allclose(variance, x.var(axis=0, dtype=float), rtol=ratio * 1e-7)
    cancelled = np.mean(x**2, axis=0) - np.mean(x, axis=0) ** 2
    assert np.abs(cancelled / x.var(axis=0, dtype=float) - 1).max() > ratio * 1e-5


def test_the_engines_statistics_are_those_that_recalibrating_gives() -> None:
    model = trained(Recipe(norm="batch", width=6, depth=2, dropout=0.5))
    expected = population_statistics(model, feed, 100, 100)
    recalibrate(model, IMAGES, batch_size=100)
    found = [(one.moving_mean, one.moving_variance) for one in batch_norms(model)]
    agree(found, expected, rtol=1e-5)


def test_sets_of_any_size_are_merged_exactly() -> None:
    x = np.random.default_rng(0).normal(5, 2, (10, 3))
    for cut in (1, 3, 9):
        one, other = ([(part.mean(axis=0), part.var(axis=0))] for part in (x[:cut], x[cut:]))
        agree(merged(one, other, (10 - cut) / 10), [(x.mean(axis=0), x.var(axis=0))], rtol=1e-12)


def test_a_batchs_statistics_are_its_own() -> None:
    model = on_the_inputs(keras.layers.BatchNormalization(momentum=0.9))
    ((mean, variance),) = batch_statistics(model, IMAGES[:30])
    np.testing.assert_allclose(mean, flat(30).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, flat(30).var(axis=0), rtol=1e-4)


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


@pytest.mark.parametrize("compiled", [False, True])
def test_a_batch_is_given_what_the_one_before_left(compiled: bool) -> None:
    def digits(state: Any, indices: Any) -> Any:
        return 10 * state + tf.reduce_max(indices)

    def total() -> Any:
        return over_batches(digits, tf.constant(0), tf.range(8), 3)

    assert (tf.function(total) if compiled else total)() == 257
