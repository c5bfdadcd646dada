from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.folding import fold
from bn_tutorial.networks.layers import (
    JITTER,
    GhostBatchNormalization,
    NoisyBatchNormalization,
    PartialBatchNormalization,
    ShiftingNoise,
    normalization,
)
from bn_tutorial.networks.models import build
from bn_tutorial.networks.recalibration import recalibrate
from bn_tutorial.networks.statistics import batch_norms
from bn_tutorial.recipe import NORMALISERS, Recipe, choices

ALLOWED = [
    (model, norm)
    for model in choices("model") or ()
    for norm, row in NORMALISERS.items()
    if model == "cnn" or row.over != "channel"
]
SHAPES = [(12, 5), (12, 3, 4, 5)]
CHANGED = {
    "momentum": 0.5,
    "epsilon": 0.25,
    "center": False,
    "scale": False,
    "groups": 2,
    "size": 4,
    "max_shift": 0.25,
    "max_scale": 2.0,
    "by_example": True,
    "mean": False,
    "variance": False,
    "alpha": 0.25,
}
OPTIONS = [(norm, option) for norm, row in NORMALISERS.items() for option in row.options]


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype(np.float32)


def plain(values: Any) -> Any:
    """Normalise by hand over all axes but the last."""
    axes = tuple(range(values.ndim - 1))
    return (values - values.mean(axes)) / np.sqrt(values.var(axes) + 1e-3)


# The factory


@pytest.mark.parametrize(("model", "norm"), ALLOWED)
def test_every_normaliser_works_in_every_model_that_allows_it(model: Any, norm: Any) -> None:
    recipe = Recipe(model=model, norm=norm, width=16, batch_size=4)
    network = build(recipe, shape=(4, 4, 3), classes=3)
    probabilities = network(numbers(4, 4, 4, 3), training=True).numpy()
    assert probabilities.shape == (4, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert type(normalization(norm)) in [type(layer) for layer in network.layers]


@pytest.mark.parametrize(("norm", "option"), [pair for pair in OPTIONS if pair[1] in CHANGED])
def test_every_option_reaches_the_layer(norm: str, option: str) -> None:
    layer = normalization(norm, **{option: CHANGED[option]})
    assert layer.get_config()[option] == CHANGED[option]
    assert normalization(norm).get_config()[option] != CHANGED[option]
    assert layer(numbers(4, 2, 2, 8), training=True).shape == (4, 2, 2, 8)


def test_only_the_model_acts_on_the_other_options() -> None:
    assert [pair for pair in OPTIONS if pair[1] not in CHANGED] == [
        ("batch", "per_step"),
        ("batch", "recurrent"),
        ("layer", "recurrent"),
    ]


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
    assert all(norm in str(refusal.value) for norm in NORMALISERS)


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

    def compiled(layer: Any, given: Any) -> Any:
        return tf.function(lambda inputs: layer(inputs, training=True), [given])

    with pytest.raises(ValueError, match="ghost batch normalisation needs a fixed batch size"):
        compiled(GhostBatchNormalization(4), anything)(numbers(8, 5))
    for layer, given in (
        (GhostBatchNormalization(4), tf.TensorSpec((8, 5))),
        (GhostBatchNormalization(), anything),
    ):
        assert compiled(layer, given)(numbers(8, 5)).shape == (8, 5)


@pytest.mark.parametrize("kind", [GhostBatchNormalization, NoisyBatchNormalization])
def test_half_precision_keeps_its_type(kind: Any) -> None:
    layer = kind(4, dtype="mixed_float16")
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


# Noise


def noise(shape: tuple[int, ...], calls: int = 1, **options: Any) -> tuple[Any, Any]:
    """Return a layer's shifts and factors of its last call: outputs where y = 0 and y = 1."""
    results = []
    for y in (0, 1):
        layer = NoisyBatchNormalization(seed=5, gamma_initializer="zeros", **options)
        layer.build(shape)
        layer.beta.assign(np.full(shape[-1], y))
        for _ in range(calls):
            outputs = layer(numbers(*shape), training=True).numpy()
        results.append(outputs)
    return results[0], results[1] - results[0]


@pytest.mark.parametrize("shape", [(2000, 50), (50, 10, 4, 50)])
def test_the_noise_has_the_distribution_of_the_algorithm(shape: tuple[int, ...]) -> None:
    shift, factor = (part.reshape(-1, 50) for part in noise(shape, max_shift=0.8, max_scale=1.6))
    for drawn, low, high, std in (
        (shift, -0.8, 0.8, JITTER / 3**0.5),  # uniform between the examples
        (factor, 1.0, 1.6, JITTER),  # normal between them
    ):
        centre = drawn.mean(axis=0)  # one for each unit
        assert low - 0.02 < centre.min() < low + 0.2 * (high - low)
        assert high + 0.02 > centre.max() > high - 0.2 * (high - low)
        np.testing.assert_allclose(drawn.std(axis=0), std, rtol=0.1)
        between = np.corrcoef((drawn - centre).T) - np.eye(50)
        assert np.abs(between).max() < 0.12  # units draw for themselves
    assert (shift.max(axis=0) - shift.min(axis=0)).max() < 2 * JITTER + 1e-5
    assert (factor.max(axis=0) - factor.min(axis=0)).min() > 4 * JITTER
    assert abs(np.corrcoef(shift[:, 0], factor[:, 0])[0, 1]) < 0.12


def test_the_distribution_changes_in_every_step() -> None:
    first, second, again = (noise((2000, 50), calls) for calls in (1, 2, 1))
    for one, another, same in zip(first, second, again, strict=True):
        assert np.abs(one.mean(axis=0) - another.mean(axis=0)).mean() > 0.05
        np.testing.assert_array_equal(one, same)
    other = NoisyBatchNormalization(seed=6, gamma_initializer="zeros")
    assert not np.isclose(other(numbers(2000, 50), training=True), first[0]).all(axis=0).any()


def test_noise_by_example_is_as_strong_and_makes_nothing_drift() -> None:
    steps = [noise((4000, 20), calls) for calls in (1, 2, 3)]
    alone = [noise((4000, 20), calls, by_example=True) for calls in (1, 2, 3)]
    for which in (0, 1):  # shift, factor
        together, apart = (np.array([step[which] for step in some]) for some in (steps, alone))
        assert apart.std() == pytest.approx(together.std(), rel=0.15)  # few units draw together
        assert np.ptp(together.mean(axis=1), axis=0).mean() > 0.05
        assert np.ptp(apart.mean(axis=1), axis=0).mean() < 0.02


@pytest.mark.parametrize("by_example", [False, True])
def test_noise_alone_is_that_of_the_noisy_layer(by_example: bool) -> None:
    values = numbers(12, 5)
    noisy = NoisyBatchNormalization(seed=5, by_example=by_example)
    noisy.build(values.shape)
    alone = ShiftingNoise(seed=5, by_example=by_example)
    normalised = keras.layers.BatchNormalization()(values, training=True)
    np.testing.assert_allclose(
        alone(normalised, training=True), noisy(values, training=True), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(alone(values, training=False), values)
    np.testing.assert_array_equal(alone(values), values)
    assert ShiftingNoise.from_config(alone.get_config()).get_config() == alone.get_config()
    assert not alone.weights or all(not one.trainable for one in alone.weights)


def test_all_but_the_noise_is_batch_normalisation() -> None:
    noisy, batch = NoisyBatchNormalization(seed=0), keras.layers.BatchNormalization()
    values = numbers(12, 5)
    noisy.build(values.shape)
    batch.build(values.shape)
    for layer in (noisy, batch):
        layer.gamma.assign(numbers(5, seed=1))
    normalised = batch(values, training=True)
    assert not np.isclose(noisy(values, training=True), normalised).any(axis=0).all()
    for one, another in zip(noisy.weights, batch.weights, strict=True):
        np.testing.assert_array_equal(one, another)
    for training in (False, None):
        np.testing.assert_array_equal(noisy(values, training=training), batch(values))
    noisy.noise = False
    np.testing.assert_array_equal(noisy(values, training=True), batch(values, training=True))
    noisy.noise, noisy.trainable, batch.trainable = True, False, False
    np.testing.assert_array_equal(noisy(values, training=True), batch(values))


def test_noise_is_compiled_with_an_algorithm_of_a_known_name() -> None:
    layer = NoisyBatchNormalization(seed=0, gamma_initializer="zeros")
    layer.build((12, 5))
    compiled = tf.function(lambda inputs: layer(inputs, training=True), jit_compile=True)
    one, another = (compiled(numbers(12, 5)).numpy() for _ in range(2))
    assert not np.isclose(one, another).all(axis=0).any()
    assert np.abs([one, another]).max() < 0.5 + JITTER
    operations = compiled.get_concrete_function(numbers(12, 5)).graph.get_operations()
    # this one leaves the choice to XLA
    assert "StatelessRandomGetKeyCounter" not in {operation.type for operation in operations}


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
def test_a_model_with_noise_survives_saving(tmp_path: Path) -> None:
    layer = NoisyBatchNormalization(max_shift=0.25, max_scale=2.0, seed=3, momentum=0.5)
    model = keras.Sequential([keras.Input((5,)), layer])
    model(numbers(12, 5), training=True)
    model.save(tmp_path / "model.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "model.keras").layers
    assert loaded.get_config() == layer.get_config()
    np.testing.assert_array_equal(loaded(numbers(12, 5)), layer(numbers(12, 5)))


def test_a_mask_hides_values_from_the_statistics_of_a_ghost() -> None:
    values = np.random.default_rng(0).normal(3, 2, (8, 5, 2)).astype("float32")
    mask = np.tile(np.arange(5) < 3, (8, 1))
    layer = GhostBatchNormalization(size=4, momentum=0.0)
    outputs = layer(values, training=True, mask=mask)[:, :3].numpy().reshape(2, 12, 2)
    np.testing.assert_allclose(outputs.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(outputs.std(1), 1, atol=1e-2)
    shown = values[:, :3].reshape(2, 12, 2)
    np.testing.assert_allclose(layer.moving_mean, shown.mean(1).mean(0), rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance, shown.var(1).mean(0), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
def test_ghosts_compute_in_other_dtypes(dtype: str) -> None:
    values = np.random.default_rng(0).normal(3, 2, (8, 2))
    layer = GhostBatchNormalization(size=4, dtype=dtype)
    outputs = np.asarray(layer(values, training=True), float).reshape(2, 4, 2)
    np.testing.assert_allclose(outputs.mean(1), 0, atol=1e-2)
    assert layer.compute_dtype == str(layer(values, training=True).dtype.name)


# Parts of batch normalisation

PARTS = [(True, False), (False, True), (False, False)]


def parted(values: Any, moments: tuple[Any, Any], mean: bool, variance: bool) -> Any:
    """Normalise by a part of these moments, by hand."""
    centred = values - moments[0] if mean else values
    return centred / np.sqrt(moments[1] + 1e-3) if variance else centred


def changed(layer: Any, shape: tuple[int, ...]) -> Any:
    """Return a layer whose γ, β and moving statistics are no longer those of the start."""
    if not layer.built:
        layer.build(shape)
    for index, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance")):
        getattr(layer, name).assign(np.abs(numbers(5, seed=index + 1)) + 0.5)
    return layer


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mean", "variance"), PARTS)
def test_a_part_alone_normalises(mean: bool, variance: bool, shape: tuple[int, ...]) -> None:
    layer = changed(PartialBatchNormalization(mean, variance, momentum=0.75), shape)
    gamma, beta, *moving = (one.numpy() for one in layer.weights)
    values, axes = numbers(*shape), tuple(range(len(shape) - 1))
    known = gamma * parted(values, tuple(moving), mean, variance) + beta
    np.testing.assert_allclose(layer(values), known, rtol=1e-5, atol=1e-5)
    moments = values.mean(axes), values.var(axes)
    by_batch = gamma * parted(values, moments, mean, variance) + beta
    np.testing.assert_allclose(layer(values, training=True), by_batch, rtol=1e-4, atol=1e-4)
    if mean or variance:
        assert not np.allclose(known, by_batch, atol=0.1)
    # both are gathered, whichever is used
    for now, old, new in zip(layer.weights[2:], moving, moments, strict=True):
        np.testing.assert_allclose(now, 0.75 * old + 0.25 * new, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_parts_are_batch_normalisation(shape: tuple[int, ...]) -> None:
    results = []
    for kind in (PartialBatchNormalization, keras.layers.BatchNormalization):
        layer, inputs = changed(kind(momentum=0.75), shape), tf.constant(numbers(*shape))
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, training=True)
            loss = tf.reduce_sum(outputs * numbers(*shape, seed=3))
        slopes = tape.gradient(loss, [inputs, *(one.value for one in layer.trainable_variables)])
        results.append([outputs, *slopes, *layer.weights, layer(inputs)])
    for part, batch in zip(*results, strict=True):
        np.testing.assert_array_equal(part, batch)


@pytest.mark.parametrize(("mean", "variance"), PARTS)
def test_the_gradient_of_a_part_goes_through_its_statistics(mean: bool, variance: bool) -> None:
    layer = PartialBatchNormalization(mean, variance)
    inputs, weights = tf.constant(numbers(12, 5)), numbers(12, 5, seed=3)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        moments = tf.nn.moments(inputs, axes=0)
        centred = inputs - moments[0] if mean else inputs
        by_hand = centred / tf.sqrt(moments[1] + 1e-3) if variance else centred
        losses = [tf.reduce_sum(one * weights) for one in (layer(inputs, training=True), by_hand)]
    found, expected = (tape.gradient(loss, inputs) for loss in losses)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_mask_hides_values_from_a_part() -> None:
    mask = np.tile(np.arange(5) < 3, (8, 1))
    for part in PARTS:
        layers = PartialBatchNormalization(*part), keras.layers.BatchNormalization()
        for layer in layers:
            layer(numbers(8, 5, 2), training=True, mask=mask)
        ours, theirs = ([one.moving_mean, one.moving_variance] for one in layers)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_frozen_part_is_in_inference_mode() -> None:
    layer = changed(PartialBatchNormalization(variance=False), (12, 5))
    before = layer.get_weights()
    layer.trainable = False
    np.testing.assert_array_equal(layer(numbers(12, 5), training=True), layer(numbers(12, 5)))
    for then, now in zip(before, layer.get_weights(), strict=True):
        np.testing.assert_array_equal(then, now)


@pytest.mark.parametrize("dtype", ["float64", "mixed_float16"])
def test_parts_compute_in_other_dtypes(dtype: str) -> None:
    layer = PartialBatchNormalization(variance=False, dtype=dtype)
    outputs = layer(numbers(12, 5), training=True)
    assert layer.compute_dtype == str(outputs.dtype.name)
    np.testing.assert_allclose(np.asarray(outputs, float).mean(axis=0), 0, atol=1e-2)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras 3.15
@pytest.mark.parametrize(("mean", "variance"), PARTS)
def test_a_part_survives_saving(mean: bool, variance: bool, tmp_path: Path) -> None:
    layer = changed(PartialBatchNormalization(mean, variance, momentum=0.5, scale=True), (12, 5))
    twin = PartialBatchNormalization.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    keras.Sequential([keras.Input((5,)), layer]).save(tmp_path / "model.keras")
    (loaded,) = keras.saving.load_model(tmp_path / "model.keras").layers
    assert (loaded.mean, loaded.variance, loaded.momentum) == (mean, variance, 0.5)
    np.testing.assert_array_equal(loaded(numbers(12, 5)), layer(numbers(12, 5)))


@pytest.mark.parametrize(("mean", "variance"), PARTS)
def test_parts_are_recalibrated_and_folded(mean: bool, variance: bool) -> None:
    options = {"mean": mean, "variance": variance, "momentum": 0.5}
    recipe = Recipe(width=5, depth=2, norm="partial", norm_options=options)
    model, images = build(recipe, shape=(4, 4, 3), classes=3), numbers(40, 4, 4, 3)
    for norm in batch_norms(model):
        changed(norm, (12, 5))
    recalibrate(model, images)
    values = images.reshape(40, -1)
    for layer, norm in zip(model.layers[1:7:3], batch_norms(model), strict=True):
        kernel, bias = layer.get_weights()
        values = values @ kernel + bias
        moments = values.mean(axis=0), values.var(axis=0)
        np.testing.assert_allclose(norm.moving_mean, moments[0], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(norm.moving_variance, moments[1], rtol=1e-4)
        values = parted(values, moments, mean, variance)
        values = np.maximum(norm.gamma.numpy() * values + norm.beta.numpy(), 0)
    folded = fold(model)
    assert not batch_norms(folded)
    np.testing.assert_allclose(folded(images), model(images), rtol=1e-3, atol=1e-5)
