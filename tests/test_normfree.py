"""What networks without normalisers are made of."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.normfree import DynamicErf, DynamicTanh, Gain, StandardizedDense

ALL: dict[str, Any] = {
    "dyt": lambda: DynamicTanh(alpha=0.25),
    "derf": lambda: DynamicErf(alpha=0.25),
    "gain": Gain,
    "dense": lambda: StandardizedDense(4, activation="tanh"),
    "without a bias": lambda: StandardizedDense(4, use_bias=False),
}


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(0.5, 1.5, shape).astype(np.float32)


def changed(layer: Any, *shape: int) -> Any:
    """Return a layer whose variables are no longer those of the start."""
    layer.build(shape)
    for index, weight in enumerate(layer.weights):
        weight.assign(numbers(*weight.shape, seed=index + 1))
    return layer


def values(layer: Any) -> dict[str, Any]:
    return {one.name: one.numpy().astype(float) for one in layer.weights}


def erf(inputs: Any) -> Any:
    return np.vectorize(math.erf)(inputs)


# What squashes


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 4, 5)])
def test_dynamic_tanh_is_its_formula(shape: tuple[int, ...]) -> None:
    layer, inputs = changed(DynamicTanh(), *shape), numbers(*shape)
    v = values(layer)
    assert {name: one.shape for name, one in v.items()} == {
        "alpha": (),
        "gamma": (5,),
        "beta": (5,),
    }
    expected = v["gamma"] * np.tanh(v["alpha"] * inputs) + v["beta"]
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 5), (12, 3, 4, 5)])
def test_dynamic_erf_is_its_formula(shape: tuple[int, ...]) -> None:
    layer, inputs = changed(DynamicErf(), *shape), numbers(*shape)
    v = values(layer)
    assert v["shift"].shape == v["alpha"].shape == ()
    expected = v["gamma"] * erf(v["alpha"] * inputs + v["shift"]) + v["beta"]
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("kind", "squash"), [(DynamicTanh, np.tanh), (DynamicErf, erf)])
def test_squashing_starts_from_alpha_alone(kind: Any, squash: Any) -> None:
    inputs = numbers(12, 5)
    for layer, alpha in ((kind(), 0.5), (kind(alpha=2.0), 2.0)):
        np.testing.assert_allclose(layer(inputs), squash(alpha * inputs), rtol=1e-5, atol=1e-6)


# What starts at zero


def test_a_gain_is_one_number_that_starts_at_zero() -> None:
    layer, inputs = Gain(), numbers(12, 3, 5)
    np.testing.assert_array_equal(layer(inputs), np.zeros_like(inputs))
    (gain,) = layer.trainable_variables
    gain.assign(-1.5)
    np.testing.assert_array_equal(layer(inputs), -1.5 * inputs)


# Standardised kernels


@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_standardised_kernel_is_its_formula(activation: str | None) -> None:
    layer = changed(StandardizedDense(4, activation=activation), 12, 5)
    v, inputs = values(layer), numbers(12, 5)
    assert {name: one.shape for name, one in v.items()} == {
        "kernel": (5, 4), "bias": (4,), "gain": (4,),
    }  # fmt: skip
    kernel = v["kernel"] - v["kernel"].mean(axis=0)
    kernel *= v["gain"] / np.sqrt(5 * v["kernel"].var(axis=0) + 1e-4)
    outputs = inputs @ kernel * math.sqrt(2 / (1 - 1 / math.pi)) + v["bias"]
    expected = np.maximum(outputs, 0) if activation else outputs
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-5)


def test_neither_scale_nor_mean_of_a_kernel_matters() -> None:
    layer = changed(StandardizedDense(4), 12, 50)
    before = layer(numbers(12, 50)).numpy()
    layer.kernel.assign(3 * layer.kernel + numbers(4))
    np.testing.assert_allclose(layer(numbers(12, 50)), before, rtol=1e-3, atol=1e-4)


def test_without_a_bias_nothing_is_added() -> None:
    plain, biased = StandardizedDense(4, use_bias=False), StandardizedDense(4)
    for layer in (plain, biased):
        layer.build((12, 5))
        layer.kernel.assign(numbers(5, 4))
    assert [one.name for one in plain.weights] == ["kernel", "gain"]
    np.testing.assert_array_equal(plain(numbers(12, 5)), biased(numbers(12, 5)))


def test_a_relu_keeps_a_variance_of_one() -> None:
    inputs = np.random.default_rng(0).normal(size=(4000, 300)).astype(np.float32)
    initializer = keras.initializers.HeNormal(seed=0)
    for _ in range(3):
        layer = StandardizedDense(300, kernel_initializer=initializer)
        # relu's output, normalised, is what the next layer is given
        inputs = np.maximum(layer(inputs), 0)
        assert inputs.var(axis=0).mean() == pytest.approx(1, rel=0.1)


# All of them


@pytest.mark.parametrize("name", ALL)
def test_every_variable_has_a_gradient_of_its_own(name: str) -> None:
    layer, inputs = changed(ALL[name](), 12, 5), tf.constant(numbers(12, 5))
    weights = numbers(*layer(inputs).shape, seed=9)

    def loss() -> Any:
        return tf.reduce_sum(layer(inputs) * weights)

    with tf.GradientTape() as tape:
        found = loss()
    gradients = tape.gradient(found, [one.value for one in layer.trainable_variables])
    assert len(gradients) == len(layer.weights)
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        # along a direction of its own, against a difference
        value, way = variable.numpy(), numbers(*variable.shape, seed=10)
        losses = []
        for step in (1e-2, -1e-2):
            variable.assign(value + step * way)
            losses.append(float(loss()))
        variable.assign(value)
        slope = np.sum(gradient.numpy() * way)
        assert abs(slope) > 1e-2
        assert (losses[0] - losses[1]) / 2e-2 == pytest.approx(slope, rel=2e-2), variable.name


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
@pytest.mark.parametrize("name", ALL)
def test_each_survives_saving(name: str, tmp_path: Path) -> None:
    layer = changed(ALL[name](), 12, 5)
    twin = type(layer).from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    keras.Sequential([keras.Input((5,)), layer]).save(tmp_path / "model.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "model.keras").layers
    assert type(loaded) is type(layer)
    np.testing.assert_array_equal(loaded(numbers(12, 5)), layer(numbers(12, 5)))


@pytest.mark.parametrize("name", ALL)
def test_each_computes_in_half_precision(name: str) -> None:
    layer = ALL[name]()
    layer.dtype_policy = "mixed_float16"
    assert layer(numbers(12, 5)).dtype == tf.float16
