from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines.probes import (
    QUANTILES,
    UNITS,
    branches,
    covariate_shift,
    gradient_norms,
    landscape,
    preactivations,
    weight_geometry,
)
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from tests.networks import IMAGES, SHAPE, flat, snapshot, trained

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
    "branches": lambda model: {"sizes": branches(model, IMAGES)},
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


def in_lengths(model: Any, gradients: list[Any]) -> list[Any]:
    """Return gradients, each layer's as long as its variables."""
    found = iter(gradients)
    rescaled = []
    for layer in model.layers:
        slopes = [next(found) for _ in layer.trainable_variables]
        values = [variable.numpy() for variable in layer.trainable_variables]
        rescaled += [slope * norm(values) / norm(slopes) for slope in slopes]
    return rescaled


def norm(arrays: list[Any]) -> float:
    return float(np.sqrt(sum(np.sum(array.astype(np.float64) ** 2) for array in arrays)))


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("recipe", [HIDDEN, RANDOM], ids=["batch", "random"])
def test_no_probe_changes_the_model(name: str, recipe: Recipe) -> None:
    model = trained(recipe.but(residual="sum") if name == "branches" else recipe)
    before = snapshot(model)
    first, second = PROBES[name](model), PROBES[name](model)
    for then, now in zip(before, snapshot(model), strict=True):
        np.testing.assert_array_equal(then, now)
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_is_the_same_when_it_is_compiled(name: str) -> None:
    model = trained(HIDDEN.but(residual="sum") if name == "branches" else HIDDEN)
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
def test_gradient_norms_of_other_networks_are_one_for_each_hidden_layer(model: Any) -> None:
    network = build(Recipe(model=model, norm="batch", width=4, depth=2), shape=SHAPE, classes=3)
    norms = gradient_norms(network, IMAGES, LABELS).numpy()
    assert norms.shape == (2,)
    assert (norms > 0).all()


@pytest.mark.parametrize("normaliser", [None, "batch"])
def test_the_shift_of_a_gradient_is_that_after_a_step_of_the_layers_before(
    normaliser: str | None,
) -> None:
    share, recipe = 0.05, HIDDEN.but(norm=normaliser)
    found = numbers(covariate_shift(trained(recipe), IMAGES, LABELS, share))
    model = trained(recipe)
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    _, gradients = loss_and_gradients(model)
    slopes = in_lengths(model, gradients)
    for index, layer in enumerate(dense[1:]):
        before = [v for one in model.layers[: model.layers.index(layer)] for v in one.weights]
        kept = snapshot(model)
        for variable, slope in zip(model.trainable_variables, slopes, strict=True):
            if any(variable is one for one in before):
                variable.assign_sub(share * slope)
        _, others = loss_and_gradients(model)
        for variable, value in zip(model.variables, kept, strict=True):
            variable.assign(value)
        index_of = next(i for i, v in enumerate(model.trainable_variables) if v is layer.kernel)
        old, new = gradients[index_of], others[index_of]
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


def test_a_step_is_a_share_of_each_layer_s_length() -> None:
    """With weights before normalisers twice as long, the shift is the same, but for epsilon."""
    recipe = HIDDEN.but(norm_options={"epsilon": 1e-9})
    short, long = trained(recipe), trained(recipe)
    for layer in long.layers:
        if isinstance(layer, keras.layers.Dense) and layer is not long.layers[-1]:
            layer.set_weights([2 * weights for weights in layer.get_weights()])
    one, other = (numbers(covariate_shift(model, IMAGES, LABELS, 0.05)) for model in (short, long))
    np.testing.assert_allclose(one["shift"], other["shift"], rtol=1e-2)


def test_the_landscape_is_that_along_the_gradient() -> None:
    steps, share = (0.5, 2, 4), 0.05
    model = trained(HIDDEN)
    _, gradients = loss_and_gradients(model)
    slopes = in_lengths(model, gradients)
    kept = snapshot(model)
    losses, changes, betas = [], [], []
    for step in steps:
        for variable, slope in zip(model.trainable_variables, slopes, strict=True):
            variable.assign_sub(step * share * slope)
        loss, others = loss_and_gradients(model)
        losses.append(loss)
        changes.append(norm([one - other for one, other in zip(others, gradients, strict=True)]))
        betas.append(changes[-1] / (step * share * norm(slopes)))
        for variable, value in zip(model.variables, kept, strict=True):
            variable.assign(value)
    found = numbers(landscape(model, IMAGES, LABELS, share, steps))
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
        (model.trainable_variables[i].numpy(), gradients[i]) for i in (0, 2, 4)
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
