from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines.probes import (
    QUANTILES,
    UNITS,
    covariate_shift,
    gradient_norms,
    landscape,
    preactivations,
    weight_geometry,
)
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.layers import GhostBatchNormalization
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import (
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
@pytest.mark.parametrize("norm", ["batch", "noisy", "ghost", "renorm"])
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


@pytest.mark.parametrize("norm", ["batch", "noisy", "ghost", "renorm"])
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


# Gradients and geometry

LABELS = (np.arange(100) % 3).astype(np.int32)
HIDDEN = Recipe(norm="batch", width=6, depth=3)
#: With everything that draws at random.
RANDOM = HIDDEN.but(norm="noisy", dropout=0.3)

PROBES: dict[str, Any] = {
    "gradient_norms": lambda model: {"norms": gradient_norms(model, IMAGES, LABELS)},
    "covariate_shift": lambda model: covariate_shift(model, IMAGES, LABELS, 0.5),
    "landscape": lambda model: landscape(model, IMAGES, LABELS, 0.5),
    "preactivations": lambda model: preactivations(model, IMAGES),
    "weight_geometry": lambda model: weight_geometry(model, IMAGES, LABELS),
}


def loss_and_gradients(model: Any) -> tuple[float, list[Any]]:
    """Return the loss in training mode and its gradients, then undo the update of statistics."""
    kept = snapshot(model)
    with tf.GradientTape() as tape:
        outputs = model(IMAGES, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(LABELS, outputs)
        loss = tf.reduce_mean(losses)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    for variable, value in zip(model.variables, kept, strict=True):
        variable.assign(value)
    return float(loss), [gradient.numpy() for gradient in gradients]


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value.numpy() for name, value in found.items()}


def norm(arrays: list[Any]) -> float:
    return float(np.sqrt(sum(np.sum(array.astype(np.float64) ** 2) for array in arrays)))


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("recipe", [HIDDEN, RANDOM], ids=["batch", "random"])
def test_no_probe_changes_the_model(name: str, recipe: Recipe) -> None:
    model = trained(recipe)
    before = snapshot(model)
    first, second = PROBES[name](model), PROBES[name](model)
    for then, now in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(then, now)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_the_same_when_it_is_compiled(name: str) -> None:
    model = trained(HIDDEN)
    compiled = tf.function(lambda: PROBES[name](model), jit_compile=True, autograph=False)()
    for key, value in PROBES[name](model).items():
        # a change of gradients is a small difference of large numbers
        np.testing.assert_allclose(compiled[key], value, rtol=1e-3, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("normaliser", [None, "batch"])
def test_gradient_norms_are_those_with_respect_to_the_affine_outputs(
    normaliser: str | None,
) -> None:
    model = trained(HIDDEN.but(norm=normaliser))
    # zeros that are added to the outputs, so that there is something to differentiate by
    zeros = [tf.zeros((100, 6)) for _ in range(3)]
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        values, index = IMAGES, 0
        for layer in model.layers:
            values = layer(values, training=True) if "norm" in layer.name else layer(values)
            if isinstance(layer, keras.layers.Dense) and index < 3:
                values = values + zeros[index]
                index += 1
        loss = tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(LABELS, values))
    gradients = [gradient.numpy() for gradient in tape.gradient(loss, zeros)]
    expected = [np.sqrt(np.mean(np.sum(gradient**2, axis=1))) for gradient in gradients]
    np.testing.assert_allclose(gradient_norms(model, IMAGES, LABELS), expected, rtol=1e-5)


@pytest.mark.parametrize("model", ["cnn", "gru"])
def test_gradient_norms_of_other_networks_are_one_for_each_hidden_layer(model: str) -> None:
    network = build(Recipe(model=model, norm="batch", width=4, depth=2), shape=SHAPE, classes=3)
    norms = gradient_norms(network, IMAGES, LABELS).numpy()
    assert norms.shape == (2,)
    assert (norms > 0).all()


@pytest.mark.parametrize("normaliser", [None, "batch"])
def test_the_shift_of_a_gradient_is_that_after_a_step_of_the_layers_before(
    normaliser: str | None,
) -> None:
    rate, recipe = 0.3, HIDDEN.but(norm=normaliser)
    found = numbers(covariate_shift(trained(recipe), IMAGES, LABELS, rate))
    model = trained(recipe)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    _, gradients = loss_and_gradients(model)
    for index, layer in enumerate(dense[1:]):
        before = [v for one in model.layers[: model.layers.index(layer)] for v in one.weights]
        kept = snapshot(model)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            if any(variable is one for one in before):
                variable.assign_sub(rate * gradient)
        _, others = loss_and_gradients(model)
        for variable, value in zip(model.variables, kept, strict=True):
            variable.assign(value)
        place = next(i for i, v in enumerate(model.trainable_variables) if v is layer.kernel)
        old, new = gradients[place], others[place]
        assert found["shift_absolute"][index] == pytest.approx(norm([old - new]), rel=1e-3)
        assert found["shift"][index] == pytest.approx(norm([old - new]) / norm([old]), rel=1e-3)
        cosine = np.sum(old * new) / norm([old]) / norm([new])
        assert found["cosine"][index] == pytest.approx(cosine, abs=1e-5)
        assert found["shift"][index] > 1e-3
    assert found["shift"].shape == (3,)


def test_without_a_step_there_is_no_shift() -> None:
    found = covariate_shift(trained(RANDOM), IMAGES, LABELS, 0.0)
    np.testing.assert_array_equal(found["shift_absolute"], np.zeros(3))
    np.testing.assert_allclose(found["cosine"], np.ones(3), rtol=1e-5)


def test_the_landscape_is_that_along_the_gradient() -> None:
    steps, rate = (0.5, 2, 4), 0.3
    model = trained(HIDDEN)
    _, gradients = loss_and_gradients(model)
    kept = snapshot(model)
    losses, changes, betas = [], [], []
    for step in steps:
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign_sub(step * rate * gradient)
        loss, others = loss_and_gradients(model)
        losses.append(loss)
        changes.append(norm([one - other for one, other in zip(others, gradients, strict=True)]))
        betas.append(changes[-1] / (step * rate * norm(gradients)))
        for variable, value in zip(model.variables, kept, strict=True):
            variable.assign(value)
    found = numbers(landscape(model, IMAGES, LABELS, rate, steps))
    assert min(losses) < max(losses)
    assert found["landscape_low"] == pytest.approx(min(losses), rel=1e-4)
    assert found["landscape_high"] == pytest.approx(max(losses), rel=1e-4)
    assert found["gradient_change_absolute"] == pytest.approx(max(changes), rel=1e-3)
    assert found["gradient_change"] == pytest.approx(max(changes) / norm(gradients), rel=1e-3)
    assert found["beta"] == pytest.approx(max(betas), rel=1e-3)
    assert betas.index(max(betas)) != changes.index(max(changes))  # two maxima


def test_geometry_is_that_of_kernels_and_gradients() -> None:
    model = trained(HIDDEN.but(norm=None))
    found = numbers(weight_geometry(model, IMAGES, LABELS))
    _, gradients = loss_and_gradients(model)
    for index, (weight, gradient) in enumerate(
        (model.trainable_variables[place].numpy(), gradients[place]) for place in (0, 2, 4)
    ):
        assert found["norm"][index] == pytest.approx(norm([weight]), rel=1e-5)
        assert found["gradient_norm"][index] == pytest.approx(norm([gradient]), rel=1e-4)
        cosine = np.sum(weight * gradient) / norm([weight]) / norm([gradient])
        assert found["alignment"][index] == pytest.approx(cosine, abs=1e-5)
    assert all(value.shape == (3,) for value in found.values())


# Distributions of pre-activations


@pytest.mark.parametrize("width", [6, 40])
def test_preactivations_are_described_as_by_numpy(width: int) -> None:
    model = trained(Recipe(width=width, depth=1))
    found = numbers(preactivations(model, IMAGES))
    kernel, bias = model.layers[1].get_weights()
    values = flat(100) @ kernel.astype(np.float64) + bias
    assert found["mean"] == pytest.approx([np.abs(values.mean(axis=0)).mean()], rel=1e-5)
    assert found["deviation"] == pytest.approx([values.std(axis=0).mean()], rel=1e-4)
    units = np.linspace(0, width - 1, UNITS).astype(int)
    expected = np.quantile(values[:, units], QUANTILES, axis=0).T
    np.testing.assert_allclose(found["quantiles"], expected.ravel(), rtol=1e-4)


@pytest.mark.parametrize("position", ["before", "after"])
def test_preactivations_are_what_enters_the_activation(position: str) -> None:
    model = build(HIDDEN.but(norm_position=position, depth=2), 1, shape=SHAPE, classes=3)
    found = preactivations(model, IMAGES)
    assert found["quantiles"].shape == (2 * UNITS * len(QUANTILES),)
    normal = np.allclose(found["mean"], 0, atol=1e-5), np.allclose(found["deviation"], 1, atol=0.1)
    assert normal == ((True, True) if position == "before" else (False, False))


def test_of_many_pixels_some_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(Recipe(model="cnn", width=4), 1, shape=SHAPE, classes=3)
    everything = preactivations(model, IMAGES)
    monkeypatch.setattr("bn_tutorial.engines.probes.VALUES", 400)  # of 1600
    some = preactivations(model, IMAGES)
    assert not np.array_equal(everything["quantiles"], some["quantiles"])
    np.testing.assert_allclose(some["quantiles"], everything["quantiles"], atol=0.1)
    np.testing.assert_array_equal(some["mean"], everything["mean"])
