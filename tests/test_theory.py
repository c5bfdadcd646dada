"""Predictions against measurements, each with the tolerance that it is held to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines.probes import gradient_norms, weight_geometry
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from bn_tutorial.scratch.theory import (
    batch_noise,
    effective_rate,
    expected_variance_ratio,
    gradient_growth,
    norm_growth,
    normalized_std,
    start_weight,
)

SHAPE = (4, 4, 3)


def batch(random: np.random.Generator, size: int) -> tuple[Any, Any]:
    images = random.standard_normal((size, *SHAPE)).astype(np.float32)
    return images, random.integers(0, 10, size).astype(np.int32)


# Gradients that grow with depth


@pytest.mark.parametrize("size", [4, 6])
def test_the_growth_of_gradients_is_that_of_images_as_correlated_as_a_normaliser_leaves_them(
    size: int,
) -> None:
    random = np.random.default_rng(0)
    features = random.standard_normal((size, 1000))
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    gram = features @ features.T / 1000
    alike = gram[
        ~np.eye(size, dtype=bool)
    ].mean()  # a mean, but deep in a network it is each of them
    u, v = random.standard_normal((2, 1_000_000))
    v = alike * u + np.sqrt(1 - alike**2) * v
    slope = 2 * np.mean((u > 0) & (v > 0))
    kernel = 2 * np.mean(np.maximum(u, 0) * np.maximum(v, 0))
    squared = ((size - 1 + slope) / (1 - kernel) - 1) / (size - 3)
    assert gradient_growth(size) == pytest.approx(math.sqrt(squared), rel=2e-3)


def test_the_growth_of_gradients_has_the_limits_of_the_theorem() -> None:
    assert gradient_growth() == pytest.approx(1.2112, abs=5e-5)
    assert gradient_growth() == pytest.approx(math.sqrt(math.pi / (math.pi - 1)))
    assert gradient_growth(10**6) == pytest.approx(gradient_growth(), rel=1e-5)
    assert gradient_growth(activation="linear") == 1
    assert gradient_growth(8, "linear") == pytest.approx(math.sqrt(6 / 5))
    relu = [gradient_growth(size) for size in (4, 5, 8, 16, 32, 128, 1024)]
    assert relu == sorted(relu, reverse=True)
    assert relu[-1] > gradient_growth()


@pytest.mark.parametrize(("size", "activation"), [(3, "relu"), (3, "linear"), (0, "relu")])
def test_a_batch_has_to_be_large_enough(size: int, activation: str) -> None:
    with pytest.raises(ValueError, match=f"batch_size={size} is impossible"):
        gradient_growth(size, activation)


def test_other_activations_are_refused() -> None:
    with pytest.raises(ValueError, match="choose 'relu' or 'linear'"):
        gradient_growth(32, "tanh")


@pytest.mark.parametrize(
    ("size", "activation", "norm", "expected", "tolerance"),
    [
        (128, "relu", "batch", gradient_growth(), 0.02),
        (128, "relu", "batch", gradient_growth(128), 0.02),
        (8, "relu", "batch", gradient_growth(8), 0.02),
        (8, "linear", "batch", gradient_growth(8, "linear"), 0.02),
        (32, "linear", "batch", gradient_growth(32, "linear"), 0.02),
        (128, "relu", None, 1.0, 0.02),  # the control: He's initialisation without normaliser
    ],
)
def test_gradients_grow_as_predicted(
    size: int, activation: Any, norm: Any, expected: float, tolerance: float
) -> None:
    depth, factors = 20, []
    recipe = Recipe(
        width=512, depth=depth, activation=activation, norm=norm, initializer="he_normal"
    )
    for seed in range(3):
        inputs = batch(np.random.default_rng(seed), size)
        norms = gradient_norms(build(recipe, seed, shape=SHAPE), *inputs).numpy()
        # the middle, where neither the inputs nor the output layer are near
        factors.append((norms[6] / norms[17]) ** (1 / 11))
    assert np.mean(factors) == pytest.approx(expected, rel=tolerance)


# Statistics


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_a_small_variance_is_not_normalised_to_1(epsilon: float) -> None:
    random = np.random.default_rng(0)
    variances = np.array([1e-6, 1e-4, 1e-3, 1e-2, 1.0])
    inputs = random.standard_normal((4000, 5)) * np.sqrt(variances)
    layer = keras.layers.BatchNormalization(epsilon=epsilon)
    outputs = layer(inputs.astype(np.float32), training=True).numpy()
    expected = normalized_std(inputs.var(axis=0), epsilon)
    np.testing.assert_allclose(outputs.std(axis=0), expected, rtol=1e-4)
    assert normalized_std(epsilon, epsilon) == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize(("momentum", "steps"), [(0.99, 1), (0.99, 40), (0.9, 7), (0.0, 3)])
def test_the_initial_value_fades_from_keras_moving_statistics(momentum: float, steps: int) -> None:
    layer = keras.layers.BatchNormalization(momentum=momentum)
    for _ in range(steps):
        layer(np.full((4, 1), 3.0, np.float32), training=True)  # mean 3, variance 0
    weight = start_weight(steps, momentum)
    assert layer.moving_variance.numpy() == pytest.approx([weight], abs=1e-6)  # it was 1
    assert layer.moving_mean.numpy() == pytest.approx([3 * (1 - weight)], rel=1e-4)  # it was 0


def test_start_weights_of_the_notes() -> None:
    np.testing.assert_allclose(start_weight([40, 196], 0.99), [0.67, 0.14], atol=0.005)


@pytest.mark.parametrize("count", [2, 4, 32])
def test_the_variance_of_a_batch_is_too_small(count: int) -> None:
    values = np.random.default_rng(0).standard_normal((20_000, count))
    measured = values.var(axis=1).mean()
    # three standard errors of the mean of 20,000 variances
    error = 3 * math.sqrt(2 * (count - 1) / count**2 / 20_000)
    assert measured == pytest.approx(expected_variance_ratio(count), abs=error)
    assert error < 1 / count / 2  # so that 1 would fail


def test_keras_averages_the_too_small_variance() -> None:
    layer = keras.layers.BatchNormalization(momentum=0.999)
    layer.build((2, 500))
    layer.moving_variance.assign(np.full(500, 0.5))
    random = np.random.default_rng(0)
    for _ in range(200):
        layer(random.standard_normal((2, 500)).astype(np.float32), training=True)
    assert layer.moving_variance.numpy().mean() == pytest.approx(
        expected_variance_ratio(2), rel=0.02
    )


@pytest.mark.parametrize(("draw", "kurtosis"), [("standard_normal", 3.0), ("random", 1.8)])
@pytest.mark.parametrize("count", [32, 128])
def test_the_statistics_of_a_batch_scatter_as_predicted(
    draw: str, kurtosis: float, count: int
) -> None:
    batches = getattr(np.random.default_rng(0), draw)((10_000, count))
    population = {"standard_normal": 1.0, "random": math.sqrt(1 / 12)}[draw]
    measured = batches.mean(1).std() / population, batches.std(1).std() / population
    # a standard deviation over 10,000 batches is known to 0.7 %
    assert measured == pytest.approx(batch_noise(count, kurtosis), rel=0.03)


def test_a_distribution_without_tails_is_the_least_noisy() -> None:
    mean, std = batch_noise([4, 64], kurtosis=1)
    assert list(mean) == [0.5, 0.125]
    assert list(std) == [0, 0]
    with pytest.raises(ValueError, match=r"kurtosis=0\.9 is impossible"):
        batch_noise(4, kurtosis=0.9)


# Kernels before a normaliser


def step(model: Any, inputs: Any, targets: Any, rate: float) -> None:
    """Take one step of plain gradient descent on the first kernel alone."""
    kernel = model.layers[1].kernel
    with tf.GradientTape() as tape:
        outputs = model(inputs, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(targets, outputs)
        loss = tf.reduce_mean(losses)
    kernel.assign_sub(rate * tape.gradient(loss, kernel.value))


def test_before_a_normaliser_a_kernel_grows_as_pythagoras_says() -> None:
    recipe = Recipe(width=32, norm="batch", norm_options={"epsilon": 1e-7})
    model = build(recipe, 0, shape=SHAPE)
    random = np.random.default_rng(0)
    start = np.sum(model.layers[1].kernel.numpy() ** 2)
    for _ in range(5):
        inputs, targets = batch(random, 64)
        measured = weight_geometry(model, inputs, targets)
        assert abs(measured["alignment"][0]) < 1e-4  # <w, g> is 0
        expected = norm_growth(measured["norm"][0] ** 2, 3.0, measured["gradient_norm"][0] ** 2)
        step(model, inputs, targets, 3.0)
        found = np.sum(model.layers[1].kernel.numpy() ** 2)
        assert found == pytest.approx(expected, rel=1e-4)
    assert found > 1.05 * start  # so the tolerance is small compared with the growth


def test_without_a_normaliser_it_does_not() -> None:
    model = build(Recipe(width=32), 0, shape=SHAPE)
    inputs, targets = batch(np.random.default_rng(0), 64)
    measured = weight_geometry(model, inputs, targets)
    assert abs(measured["alignment"][0]) > 1e-2


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_the_effective_rate_is_what_turns_a_kernel(factor: float) -> None:
    recipe = Recipe(width=32, norm="batch", norm_options={"epsilon": 1e-7})
    inputs, targets = batch(np.random.default_rng(0), 64)
    directions = []
    for scale in (1.0, factor):
        model = build(recipe, 0, shape=SHAPE)
        kernel = model.layers[1].kernel
        kernel.assign(scale * kernel)
        norm = np.sum(kernel.numpy() ** 2)
        rate = 0.3 * norm
        assert effective_rate(rate, norm) == pytest.approx(0.3)  # whatever the scale
        step(model, inputs, targets, rate)
        directions.append(kernel.numpy() / np.linalg.norm(kernel.numpy()))
    np.testing.assert_allclose(directions[0], directions[1], atol=1e-5)
    start = build(recipe, 0, shape=SHAPE).layers[1].kernel.numpy()
    assert np.abs(directions[0] - start / np.linalg.norm(start)).max() > 1e-2
