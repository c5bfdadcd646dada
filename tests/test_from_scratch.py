"""The NumPy implementation against Keras, against finite differences, and against algebra."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from bn_tutorial import scratch as bn

from .batches import Array, Case, batch, cases, epsilons, examples, others

# Keras computes gamma x / s + (beta - gamma mean / s), this module gamma (x - mean) / s + beta.
# The two differ by a few roundings of the largest term, which is about 16 for the batches drawn
# here: by 40 machine epsilons at most, 5e-6 in float32 and 9e-15 in float64. Gradients are
# compared with the largest term that is summed, as the sum itself may cancel to nothing.
ROUNDING = {t: 40 * float(np.finfo(t).eps) for t in ("float32", "float64")}


def layer(case: Case, epsilon: float, momentum: float = 0.99) -> keras.layers.BatchNormalization:
    made = keras.layers.BatchNormalization(
        axis=case.axis, epsilon=epsilon, momentum=momentum, dtype=str(case.x.dtype)
    )
    made.build(case.x.shape)
    made.gamma.assign(case.gamma)
    made.beta.assign(case.beta)
    return made


def close(ours: Array, theirs: Any, atol: float) -> None:
    theirs = np.asarray(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


# Against Keras


@examples
@given(cases(), epsilons)
def test_forward_is_that_of_keras(case: Case, epsilon: float) -> None:
    x, gamma, beta, axis, _ = case
    y, cache = bn.forward(x, gamma, beta, axis=axis, epsilon=epsilon)
    close(y, layer(case, epsilon)(x, training=True), ROUNDING[str(x.dtype)])
    close(cache.mean, x.mean(others(x, axis)), ROUNDING[str(x.dtype)])
    close(cache.variance, x.var(others(x, axis)), ROUNDING[str(x.dtype)])


@examples
@given(cases(), epsilons)
def test_gradients_are_those_of_keras(case: Case, epsilon: float) -> None:
    x, gamma, beta, axis, rng = case
    dy = rng.normal(size=x.shape).astype(x.dtype)
    theirs, xt = layer(case, epsilon), tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(xt)
        y = theirs(xt, training=True)
    sources = [xt, theirs.gamma.value, theirs.beta.value]
    expected = tape.gradient(y, sources, output_gradients=tf.constant(dy))
    _, cache = bn.forward(x, gamma, beta, axis=axis, epsilon=epsilon)
    largest = [
        np.abs(cache.gamma * cache.inv_std * dy).max(),
        np.abs(cache.x_hat * dy).sum(cache.axes).max(),
        np.abs(dy).sum(cache.axes).max(),
    ]
    for ours, gradient, size in zip(bn.backward(dy, cache), expected, largest, strict=True):
        close(ours, gradient, ROUNDING[str(x.dtype)] * float(size))


@examples
@given(cases(), epsilons, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]), st.integers(1, 4))
def test_moving_statistics_and_inference_are_those_of_keras(
    case: Case, epsilon: float, momentum: float, steps: int
) -> None:
    x, gamma, beta, axis, rng = case
    theirs, tolerance = layer(case, epsilon, momentum), ROUNDING[str(x.dtype)]
    mean, variance = np.zeros_like(gamma), np.ones_like(gamma)
    for _ in range(steps):
        x = batch(rng, x.shape, axis, str(x.dtype))
        theirs(x, training=True)
        _, cache = bn.forward(x, gamma, beta, axis=axis, epsilon=epsilon)
        mean = bn.update_moving(mean, cache.mean, momentum)
        variance = bn.update_moving(variance, cache.variance, momentum)
    close(mean, theirs.moving_mean, tolerance)
    close(variance, theirs.moving_variance, tolerance)
    y = bn.infer(x, gamma, beta, mean, variance, axis=axis, epsilon=epsilon)
    close(y, theirs(x, training=False), tolerance)


def test_nan_spoils_its_own_feature_only() -> None:
    x = np.random.default_rng(0).normal(size=(6, 3)).astype("float32")
    x[2, 1] = np.nan
    y, _ = bn.forward(x, np.ones(3), np.zeros(3))
    theirs = keras.layers.BatchNormalization()(x, training=True)
    assert np.isnan(y[:, 1]).all()
    assert np.isfinite(y[:, [0, 2]]).all()
    np.testing.assert_allclose(y, theirs, atol=ROUNDING["float32"])


# The gradient


@examples
@given(cases("float64"), epsilons)
def test_backward_agrees_with_finite_differences(case: Case, epsilon: float) -> None:
    x, gamma, beta, axis, rng = case
    dy = rng.normal(size=x.shape)
    _, cache = bn.forward(x, gamma, beta, axis=axis, epsilon=epsilon)
    inputs, h = [x, gamma, beta], 1e-5
    for i, gradient in enumerate(bn.backward(dy, cache)):
        direction = rng.normal(size=inputs[i].shape)
        direction /= np.linalg.norm(direction)
        ends = []
        for step in (h, -h):
            moved = [*inputs[:i], inputs[i] + step * direction, *inputs[i + 1 :]]
            y, _ = bn.forward(moved[0], moved[1], moved[2], axis=axis, epsilon=epsilon)
            ends.append(float((dy * y).sum()))
        slope = (ends[0] - ends[1]) / (2 * h)
        assert (gradient * direction).sum() == pytest.approx(slope, rel=0, abs=1e-6)


@examples
@given(cases("float64"), epsilons)
def test_what_the_gradient_of_x_projects_out(case: Case, epsilon: float) -> None:
    # Adding a constant to a feature changes nothing, so dx sums to zero. Stretching a feature
    # about its mean changes only what epsilon lets through: x_hat . dx is the share
    # epsilon / (variance + epsilon) of what it would be were the variance held fixed.
    x, gamma, beta, axis, rng = case
    axes = others(x, axis)
    _, cache = bn.forward(x, gamma, beta, axis=axis, epsilon=epsilon)
    dx, dgamma, _ = bn.backward(rng.normal(size=x.shape), cache)
    np.testing.assert_allclose(dx.sum(axes), 0, atol=1e-11)
    fixed = gamma * cache.inv_std.ravel() * dgamma
    share = epsilon / (cache.variance + epsilon)
    np.testing.assert_allclose((cache.x_hat * dx).sum(axes), share * fixed, rtol=0, atol=1e-11)


def test_a_batch_of_one_gives_beta_and_no_gradient() -> None:
    x, gamma, beta = np.array([[3.0, -7.0, 0.1]]), np.array([2.0, 1.0, -1.0]), np.arange(3.0)
    y, cache = bn.forward(x, gamma, beta)
    dx, dgamma, dbeta = bn.backward(np.ones_like(x), cache)
    np.testing.assert_array_equal(y, [beta])
    np.testing.assert_array_equal(dx, np.zeros_like(x))
    np.testing.assert_array_equal(dgamma, np.zeros(3))
    np.testing.assert_array_equal(dbeta, np.ones(3))


@given(st.floats(-10, 10), st.floats(-1e3, 1e3), epsilons)
def test_a_batch_of_two_keeps_only_the_sign(mean: float, d: float, epsilon: float) -> None:
    x = np.array([[mean - d / 2], [mean + d / 2]])
    d = x[1, 0] - x[0, 0]
    _, cache = bn.forward(x, [1.0], [0.0], epsilon=epsilon)
    expected = d / 2 / np.sqrt(d**2 / 4 + epsilon)
    np.testing.assert_allclose(cache.x_hat.ravel(), [-expected, expected], rtol=0, atol=1e-11)


# The statistics of all the data, and folding


@examples
@given(st.integers(1, 6), st.integers(1, 8), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_population_is_that_of_the_whole_data(
    batches: int, size: int, features: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.uniform(-5, 5, (batches, 1, features)), 2, (batches, size, features))
    mean, variance = bn.population(x.mean(1), x.var(1))
    np.testing.assert_allclose(mean, x.mean((0, 1)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(variance, x.var((0, 1)), rtol=0, atol=1e-12)
    means, variances = x.mean(1), x.var(1)  # as Wu and Johnson write it
    np.testing.assert_allclose(
        variance, (variances + means**2).mean(0) - means.mean(0) ** 2, rtol=0, atol=1e-12
    )


def test_population_variance_stays_positive_far_from_zero() -> None:
    means = np.full((4, 1), 3e4, "float32")
    mean, variance = bn.population(means, np.full((4, 1), 1e-3, "float32"))
    np.testing.assert_allclose(mean, 3e4)
    np.testing.assert_allclose(variance, 1e-3, rtol=1e-6)


@pytest.mark.parametrize("kernel_shape", [(5, 3), (3, 5, 3), (3, 3, 5, 3)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_fold_does_in_one_layer_what_two_did(kernel_shape: tuple[int, ...], padding: str) -> None:
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=kernel_shape)
    x = rng.normal(size=(2, *[8] * (kernel.ndim - 2), 5))
    bias, gamma, beta, mean = rng.normal(size=(4, 3))
    variance = rng.uniform(0.1, 2, 3)

    def linear(kernel: Array, bias: Array) -> Array:
        if kernel.ndim == 2:
            return np.asarray(x @ kernel + bias)
        return np.asarray(keras.ops.conv(x, kernel, padding=padding)) + bias

    two = bn.infer(linear(kernel, bias), gamma, beta, mean, variance, epsilon=1e-3)
    one = linear(*bn.fold(kernel, bias, gamma, beta, mean, variance, epsilon=1e-3))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-12)


# Types and errors


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_is_kept_whatever_comes_with_it(dtype: str) -> None:
    x = np.random.default_rng(2).normal(size=(4, 3)).astype(dtype)
    one, zero, epsilon = np.ones(3), [0, 0, 0], np.float64(1e-3)  # float64, int, float64
    y, cache = bn.forward(x, one, zero, epsilon=epsilon)
    moved = bn.update_moving(cache.mean, cache.mean, np.float64(0.9))
    results = [y, *cache[:5], *bn.backward(np.ones((4, 3)), cache), moved]
    results += bn.population(cache.mean[None], cache.variance[None])
    results += [bn.infer(x, one, zero, zero, one, epsilon=epsilon)]
    results += bn.fold(x, zero, one, zero, zero, one, epsilon=epsilon)
    assert {str(r.dtype) for r in results} == {dtype}


def test_integers_are_averaged_as_real_numbers() -> None:
    y, cache = bn.forward([[0], [1]], [0.5], [0.25], epsilon=0)
    assert cache.mean.tolist() == [0.5]
    assert y.tolist() == [[-0.25], [0.75]]


def test_arguments_are_left_as_they_were() -> None:
    x, gamma, beta = np.arange(12.0).reshape(4, 3), np.ones(3), np.zeros(3)
    _, cache = bn.forward(x, gamma, beta)
    bn.backward(x, cache)
    bn.infer(x, gamma, beta, beta, gamma)
    np.testing.assert_array_equal(x, np.arange(12.0).reshape(4, 3))
    np.testing.assert_array_equal(gamma, np.ones(3))
    np.testing.assert_array_equal(beta, np.zeros(3))


x, one, zero = np.zeros((4, 3)), np.ones(3), np.zeros(3)
_, kept = bn.forward(x, one, zero)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bn.forward(one, one, zero), r"x has 1 dimension\(s\), but .* at least 2\."),
        (lambda: bn.forward(x, one, zero, axis=2), r"axis is 2, but must lie in \[-2, 1\]\."),
        (lambda: bn.forward(x, one, zero, axis=-3), r"axis is -3, but must lie in \[-2, 1\]\."),
        (lambda: bn.forward(x, one, zero, axis=0), r"gamma has shape \(3,\), but .* \(4,\)\."),
        (lambda: bn.forward(x, 1.0, zero), r"gamma has shape \(\), but .* \(3,\)\."),
        (lambda: bn.forward(x, one, zero[:2]), r"beta has shape \(2,\), but .* \(3,\)\."),
        (lambda: bn.forward(x, one, zero, epsilon=-1), r"epsilon is -1, but .* at least 0\."),
        (lambda: bn.forward(x, one, zero, epsilon=np.nan), r"epsilon is nan, but "),
        (lambda: bn.forward(x[:0], one, zero), r"x has shape \(0, 3\), but .* one value\."),
        (lambda: bn.forward(x[:, :0], [], []), r"x has shape \(4, 0\), but .* one value\."),
        (lambda: bn.backward(x[:2], kept), r"dy has shape \(2, 3\), but .* \(4, 3\)\."),
        (lambda: bn.backward(one, kept), r"dy has shape \(3,\), but .* \(4, 3\)\."),
        (lambda: bn.update_moving(zero, zero, 1.1), r"momentum is 1\.1, but .* \[0, 1\]\."),
        (lambda: bn.update_moving(zero, zero, -0.1), r"momentum is -0\.1, but .* \[0, 1\]\."),
        (lambda: bn.update_moving(zero, zero, np.nan), r"momentum is nan, but .* \[0, 1\]\."),
        (lambda: bn.infer(x, one, zero, zero[:1], one), r"mean has shape \(1,\), but "),
        (lambda: bn.infer(x, one, zero, zero, x), r"variance has shape \(4, 3\), but "),
        (lambda: bn.infer(x, one, zero, zero, one, epsilon=-1), r"epsilon is -1, but "),
        (lambda: bn.infer(x, one, zero, zero, one, axis=5), r"axis is 5, but "),
        (lambda: bn.population(x, x[:2]), r"shapes \(4, 3\) and \(2, 3\), but "),
        (lambda: bn.population(x[:0], x[:0]), r"shapes \(0, 3\) and .* at least one batch\."),
        (lambda: bn.population(one, one), r"shapes \(3,\) and \(3,\), but "),
        (lambda: bn.fold(one, zero, one, zero, zero, one), r"kernel has 1 dimension\(s\), but "),
        (lambda: bn.fold(x, x, one, zero, zero, one), r"bias has shape \(4, 3\), but "),
        (lambda: bn.fold(x.T, zero, one, zero, zero, one), r"bias has shape \(3,\), but .* \(4,"),
    ],
)
def test_errors_say_what_was_found_and_what_is_allowed(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_inference_takes_an_empty_batch() -> None:
    assert bn.infer(x[:0], one, zero, zero, one).shape == (0, 3)
