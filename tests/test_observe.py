from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import observe, single
from bn_tutorial.engines.observe import MOMENTA, geometry, gradients, landscape, shift, statistics
from bn_tutorial.engines.probes import (
    QUANTILES,
    UNITS,
    covariate_shift,
    gradient_norms,
    preactivations,
)
from bn_tutorial.engines.single import METRICS, History, epoch_order, fit, scaling
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from bn_tutorial.scratch.theory import expected_variance_ratio, start_weight

RECIPE = Recipe(
    width=8, depth=2, norm="batch", optimizer="sgd", learning_rate=0.1, batch_size=20, epochs=3
)
#: 100 images: in one epoch five steps, all of the same size.
SHALLOW = RECIPE.but(depth=1)


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """Free the compiled programs and the images after this module's tests."""
    yield
    for cache in (
        single._program,
        single._resident,
        observe._averaging_program,
        observe._shift_probe,
    ):
        cache.cache_clear()


# Probes in every epoch


@pytest.mark.parametrize(
    ("observed", "names"),
    [
        (
            shift,
            {
                f"{name}/{layer}"
                for name in ("shift", "shift_absolute", "cosine")
                for layer in (0, 1)
            }
            | {f"{name}/{layer}" for name in ("mean", "deviation") for layer in (0, 1)}
            | {f"quantiles/{index}" for index in range(40)},
        ),
        (
            landscape,
            {"landscape_low", "landscape_high", "gradient_change", "gradient_change_absolute"}
            | {"beta"},
        ),
        (
            geometry,
            {f"{name}/{i}" for name in ("norm", "gradient_norm", "alignment") for i in (0, 1)},
        ),
    ],
)
def test_observing_changes_no_training(observed: Any, names: set[str], tiny: Dataset) -> None:
    epochs: list[int] = []
    history = observed(RECIPE, tiny, 1, lambda: epochs.append(1))
    assert {name: history[name] for name in METRICS} == fit(RECIPE, tiny, 1)
    drift = {"drift/0", "drift/1"} if observed is shift else set()
    assert set(history) == {*METRICS, *names, *drift}
    assert {len(history[name]) for name in names} == {len(epochs)} == {3}
    assert {len(history[name]) for name in drift} <= {2}
    for values in history.values():
        assert all(math.isfinite(value) for value in values)


def test_what_is_observed_is_of_the_next_batch_and_of_fixed_images(tiny: Dataset) -> None:
    recipe = RECIPE.but(epochs=1, inputs="standardized")
    history = shift(recipe, tiny, 1)
    model = single._program(*single.signature(recipe), (32, 32, 3), 10).model
    inputs = scaled(tiny.x_train, recipe, tiny)
    batch = epoch_order(1, 1, 100)[:20]
    expected = covariate_shift(model, inputs[batch], tiny.y_train[batch], 0.1)
    for name, values in expected.items():
        for layer, value in enumerate(values.numpy()):
            assert history[f"{name}/{layer}"] == pytest.approx([value], rel=1e-3, abs=1e-5)
    described = preactivations(model, inputs)
    for name in ("mean", "deviation"):
        for layer, value in enumerate(described[name].numpy()):
            assert history[f"{name}/{layer}"] == pytest.approx([value], rel=1e-3, abs=1e-5)
    last = described["quantiles"].numpy().reshape(2, UNITS, len(QUANTILES))[-1, :4]
    found = [history[f"quantiles/{index}"][0] for index in range(40)]
    np.testing.assert_allclose(found, last.ravel(), rtol=1e-3, atol=1e-4)


def test_drift_is_in_units_of_the_spread(monkeypatch: pytest.MonkeyPatch, tiny: Dataset) -> None:
    # two layers whose units have spreads 1, 2, …, 16; the second layer's units then move by
    # half of their spread, and by all of it
    unit = np.array(QUANTILES) / 0.7
    layer = np.outer(np.arange(1, UNITS + 1), unit)
    moved = np.array(
        [[layer, layer + step * np.arange(1, UNITS + 1)[:, None]] for step in (0, 0.5, 1.5)]
    )
    columns = moved.reshape(3, -1).T.tolist()
    history = {f"quantiles/{index}": values for index, values in enumerate(columns)}
    monkeypatch.setattr(single, "fit", lambda *_: dict(history))
    found = shift(RECIPE, tiny, 0)
    assert found["drift/0"] == [0, 0]
    assert found["drift/1"] == pytest.approx([0.5, 1.0])
    np.testing.assert_allclose(
        [found[f"quantiles/{index}"] for index in range(40)], moved[:, 1, :4].reshape(3, -1).T
    )
    assert set(found) == {"drift/0", "drift/1", *(f"quantiles/{index}" for index in range(40))}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_run_that_diverges_can_be_observed(tiny: Dataset) -> None:
    recipe = RECIPE.but(norm=None, learning_rate=1e30)
    assert len(shift(recipe, tiny, 0)["loss"]) == 1


# Statistics in inference


def scaled(images: Any, recipe: Recipe, data: Dataset) -> Any:
    moved, scale = scaling(recipe, data)
    return (images.astype(np.float32) - moved) / scale


@pytest.fixture(scope="module")
def compared(tiny: Dataset) -> History:
    return statistics(SHALLOW, tiny, 3)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_averages_are_those_that_keras_would_have(
    momentum: float, tiny: Dataset, compared: History
) -> None:
    recipe = SHALLOW.but(norm_options={"momentum": momentum})
    plain = fit(recipe, tiny, 3)
    assert compared[f"accuracy/{momentum}"][-1] == pytest.approx(plain["val_accuracy"][-1])
    population = plain["val_accuracy_population"][-1]
    assert compared["accuracy/population"][-1] == pytest.approx(population)
    if momentum == 0.99:
        assert compared["val_loss"][-1] == pytest.approx(plain["val_loss"][-1], rel=1e-4)
        assert compared["val_accuracy"] == compared["accuracy/0.99"]
        assert abs(plain["val_loss"][-1] - plain["val_loss_population"][-1]) > 0.01


def test_training_is_that_of_the_engine(tiny: Dataset, compared: History) -> None:
    plain = fit(SHALLOW, tiny, 3)
    steps = np.diff([0, *compared["step"]])
    for name in ("loss", "accuracy"):
        assert np.average(compared[name], weights=steps) == pytest.approx(np.mean(plain[name]))


def test_it_is_measured_at_more_and_more_distant_steps(compared: History) -> None:
    steps = compared["step"]
    assert steps[0] == 1
    assert steps[-1] == 15  # of 20 images, in three epochs of 100
    assert (np.diff(steps) > 0).all()
    assert {len(values) for values in compared.values()} == {len(steps)}
    kinds = [f"{momentum}{kind}" for momentum in MOMENTA for kind in ("", " debiased", " unbiased")]
    kinds += ["population"]  # of 100 images there are no 100 others
    keys = {f"{key}/{kind}" for key in ("accuracy", "kl", "distance", "ratio") for kind in kinds}
    plain = {"step", "loss", "accuracy", "val_loss", "val_accuracy", "accuracy/batch"}
    assert set(compared) == keys | plain


def test_after_one_step_debiased_averages_are_the_batchs_own(compared: History) -> None:
    for key in ("distance", "ratio", "kl"):
        first, *others = (compared[f"{key}/{momentum} debiased"][0] for momentum in MOMENTA)
        assert others == pytest.approx([first] * 2, rel=1e-2)
        assert compared[f"{key}/0.9"][0] != pytest.approx(first, rel=1e-2)
    np.testing.assert_array_equal(compared["distance/population"], 0)
    np.testing.assert_allclose(compared["ratio/population"], 1)


def test_the_three_kinds_follow_from_the_average() -> None:
    program = observe._averaging(SHALLOW, (4, 4, 3), 3)
    initial = program.initial()
    assert [array.shape for array in initial[0]] == [(3, 8), (3, 8)]
    random = np.random.default_rng(0)
    means, variances = random.random((2, 4, 8)) + 1
    averages = [tuple(map(keras.ops.convert_to_tensor, pair)) for pair in initial]
    torch = np.ones(8)
    for mean, variance in zip(means, variances, strict=True):
        momenta = np.array(MOMENTA, np.float32)[:, None]
        averages = [
            (momenta * a + (1 - momenta) * mean, momenta * b + (1 - momenta) * variance)
            for a, b in averages
        ]
        torch = 0.9 * torch + 0.1 * variance * 20 / 19  # as PyTorch does, momentum "0.1"
    kinds = program.kinds(averages, 4, 20)
    np.testing.assert_array_equal(kinds["0.9"][0][0], averages[0][0][0])
    np.testing.assert_allclose(kinds["0.9 unbiased"][0][1], torch, rtol=1e-5)
    weights = 0.9 ** np.arange(3, -1, -1)
    for kind, values in zip(kinds["0.9 debiased"][0], (means, variances), strict=True):
        expected = np.average(values, axis=0, weights=weights)
        np.testing.assert_allclose(kind, expected, rtol=1e-4)


def test_where_weights_stand_still_theory_is_met(tiny: Dataset) -> None:
    recipe = SHALLOW.but(learning_rate=1e-9, batch_size=4, epochs=4)
    found = statistics(recipe, tiny, 0)
    steps = np.array(found["step"])
    late = steps >= 20
    # without replacement from 100 images, a batch's variance is larger by 100 / 99
    for momentum in (0.99, 0.999):
        debiased = np.array(found[f"ratio/{momentum} debiased"])[late]
        np.testing.assert_allclose(debiased, expected_variance_ratio(4) * 100 / 99, rtol=0.1)
        assert found[f"ratio/{momentum} debiased"][-1] < 0.85  # 1 would fail
        weight = start_weight(steps, momentum)
        np.testing.assert_allclose(found[f"distance/{momentum}"], weight, atol=0.06)
    variance, weight = found["ratio/0.9 unbiased"][-1], start_weight(100, 0.9)
    assert weight < 1e-4
    assert variance == pytest.approx(1, rel=0.15)


def test_predictions_in_training_mode_are_in_batches_of_the_recipes_size(tiny: Dataset) -> None:
    recipe = SHALLOW.but(batch_size=30, inputs="standardized")  # 40 test images
    found = statistics(recipe, tiny, 0)
    program = observe._averaging(recipe, (32, 32, 3), 10)
    images = scaled(tiny.x_test, recipe, tiny)
    images = np.concatenate([images, images])[:60]  # the second batch begins anew with image 0
    kept = [variable.numpy() for variable in program.model.variables]
    noisy = np.concatenate(
        [program.model(images[start : start + 30], training=True) for start in (0, 30)]
    )[:40]
    for variable, value in zip(program.model.variables, kept, strict=True):
        variable.assign(value)
    hits = noisy.argmax(axis=1) == tiny.y_test
    assert found["accuracy/batch"][-1] == pytest.approx(hits.mean())
    kernel, bias = program.model.layers[1].get_weights()
    values = scaled(tiny.x_train, recipe, tiny).reshape(100, -1) @ kernel + bias
    model = build(recipe)
    for one, other in zip(model.weights, program.model.weights, strict=True):
        one.assign(other)
    model.layers[2].moving_mean.assign(values.mean(axis=0))
    model.layers[2].moving_variance.assign(values.var(axis=0))
    calm = model(images[:40]).numpy()
    divergence = np.sum(noisy * np.log(noisy / calm), axis=1).mean()
    assert found["kl/population"][-1] == pytest.approx(divergence, rel=1e-3)
    assert divergence > 1e-3  # the tolerance is a thousandth of that


def test_one_program_serves_all_batch_sizes(tiny: Dataset) -> None:
    observe._averaging_program.cache_clear()
    for size in (10, 50):
        for seed in (0, 1):
            statistics(SHALLOW.but(batch_size=size, epochs=1), tiny, seed)
    program = observe._averaging(SHALLOW, (32, 32, 3), 10)
    assert program.compare.experimental_get_tracing_count() == 1
    assert program.average.experimental_get_tracing_count() == 2
    assert program.in_training.experimental_get_tracing_count() == 2


def test_smaller_counts_and_held_out_images(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "COUNTS", (30, 1000))
    observe._averaging_program.cache_clear()
    found = statistics(SHALLOW.but(validation=20, train_size=50, epochs=2), tiny, 0)
    assert found["step"][-1] == 4  # two epochs of 50 // 20 steps
    kinds = {name for name in found if name.startswith("distance/population")}
    assert kinds == {"distance/population 30", "distance/population"}
    assert found["distance/population 30"][-1] > 0
    hits = 20 * np.array(found["accuracy/batch"])  # of 20 images
    np.testing.assert_allclose(hits, hits.round(), atol=1e-4)


def test_epochs_are_announced_and_the_same_seed_gives_the_same(
    tiny: Dataset, compared: History
) -> None:
    epochs: list[int] = []
    assert statistics(SHALLOW, tiny, 3, lambda: epochs.append(1)) == compared
    assert len(epochs) == 3
    assert statistics(SHALLOW, tiny, 4)["val_loss"] != compared["val_loss"]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_comparison_ends_where_the_run_diverges(tiny: Dataset) -> None:
    found = statistics(SHALLOW.but(learning_rate=1e30), tiny, 0)
    assert found["step"][-1] < 15
    assert not math.isfinite(found["val_loss"][-1])


@pytest.mark.parametrize("norm", [None, "layer", "renorm"])
def test_without_batch_normalisation_there_is_nothing_to_compare(
    norm: str | None, tiny: Dataset
) -> None:
    with pytest.raises(ValueError, match=f"norm={norm!r} is impossible here"):
        statistics(SHALLOW.but(norm=norm), tiny, 0)


# Gradients of a network that is not trained


def test_gradients_are_those_of_the_first_batch_before_training(tiny: Dataset) -> None:
    recipe = RECIPE.but(depth=3, validation=20)
    epochs: list[None] = []
    history = gradients(recipe, tiny, 1, lambda: epochs.append(None))
    assert len(epochs) == 1
    used = tiny.holdout(20)
    model, batch = build(recipe, 1), epoch_order(1, 0, 80)[:20]
    inputs = used.x_train[batch].astype(np.float32) / 255
    expected = gradient_norms(model, inputs, used.y_train[batch]).numpy()
    assert [history[f"gradient/{layer}"][0] for layer in range(3)] == pytest.approx(expected)
    assert "gradient/3" not in history

    def outcome(images: Any, labels: Any, training: bool) -> tuple[float, float]:
        outputs = np.asarray(model(images, training=training))
        likelihoods = outputs[np.arange(len(labels)), labels]
        return -np.log(likelihoods).mean(), (outputs.argmax(axis=1) == labels).mean()

    # inference mode first, as training mode moves the statistics
    validation = outcome(used.x_test.astype(np.float32) / 255, used.y_test, False)
    first = outcome(inputs, used.y_train[batch], True)
    measured = [history[name] for name in ("val_loss", "val_accuracy", "loss", "accuracy")]
    assert [value for (value,) in measured] == pytest.approx([*validation, *first], rel=1e-4)


def test_gradients_depend_on_seed_and_batch(tiny: Dataset) -> None:
    one, other = (gradients(RECIPE, tiny, seed)["gradient/0"] for seed in (0, 1))
    assert one != other
    assert gradients(RECIPE.but(batch_size=10), tiny, 0)["gradient/0"] != one
    assert gradients(RECIPE, tiny, 0)["gradient/0"] == pytest.approx(one)
