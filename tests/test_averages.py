from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import averages
from bn_tutorial.engines.averages import MOMENTA, averaging, compare
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from bn_tutorial.scratch.theory import expected_variance_ratio, start_weight
from tests.benches import fit, run

#: 100 images: in one epoch five steps, all of the same size.
SHALLOW = Recipe(
    width=8,
    norm="batch",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=20,
    epochs=3,
    train_size=100,
)


def scaled(images: Any, recipe: Recipe, bench: Workbench) -> Any:
    pixel_mean, pixel_std = bench.pixel_statistics(recipe, 0)
    return (images.astype(np.float32) - pixel_mean) / pixel_std


@pytest.fixture(scope="module")
def compared(bench: Workbench) -> History:
    return run(compare, bench, SHALLOW, 3)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_averages_are_those_that_keras_would_have(
    momentum: float, bench: Workbench, compared: History
) -> None:
    recipe = SHALLOW.but(norm_options={"momentum": momentum})
    plain = fit(bench, recipe, 3)
    assert compared[f"accuracy/{momentum}"][-1] == pytest.approx(plain["val_accuracy"][-1])
    population = plain["val_accuracy_population"][-1]
    assert compared["accuracy/population"][-1] == pytest.approx(population)
    if momentum == 0.99:
        assert compared["val_loss"][-1] == pytest.approx(plain["val_loss"][-1], rel=1e-4)
        assert compared["val_accuracy"] == compared["accuracy/0.99"]
        assert abs(plain["val_loss"][-1] - plain["val_loss_population"][-1]) > 0.01


def test_training_is_that_of_the_engine(bench: Workbench, compared: History) -> None:
    plain = fit(bench, SHALLOW, 3)
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


def test_the_three_kinds_follow_from_the_average(bench: Workbench) -> None:
    program = averaging(bench, SHALLOW)
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


def test_where_weights_stand_still_theory_is_met(bench: Workbench) -> None:
    recipe = SHALLOW.but(learning_rate=1e-9, batch_size=4, epochs=4)
    found = run(compare, bench, recipe, 0)
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


def test_predictions_in_training_mode_are_in_batches_of_the_recipes_size(bench: Workbench) -> None:
    recipe = SHALLOW.but(batch_size=30, inputs="standardized")  # 40 test images
    found = run(compare, bench, recipe, 0)
    program = averaging(bench, recipe)
    images = scaled(bench.data.x_test, recipe, bench)
    images = np.concatenate([images, images])[:60]  # the second batch begins anew with image 0
    kept = [variable.numpy() for variable in program.model.variables]
    noisy = np.concatenate(
        [program.model(images[start : start + 30], training=True) for start in (0, 30)]
    )[:40]
    for variable, value in zip(program.model.variables, kept, strict=True):
        variable.assign(value)
    hits = noisy.argmax(axis=1) == bench.data.y_test
    assert found["accuracy/batch"][-1] == pytest.approx(hits.mean())
    kernel, bias = program.model.layers[1].get_weights()
    values = scaled(bench.data.x_train, recipe, bench).reshape(100, -1) @ kernel + bias
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
    with Workbench(tiny) as bench:
        for size in (10, 50):
            for seed in (0, 1):
                run(compare, bench, SHALLOW.but(batch_size=size, epochs=1), seed)
        program = averaging(bench, SHALLOW)
    assert program.compare.experimental_get_tracing_count() == 1
    assert program.average.experimental_get_tracing_count() == 2
    assert program.in_training.experimental_get_tracing_count() == 2


def test_smaller_counts_and_held_out_images(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "COUNTS", (30, 1000))
    with Workbench(tiny) as bench:
        found = run(compare, bench, SHALLOW.but(validation=20, train_size=50, epochs=2))
    assert found["step"][-1] == 4  # two epochs of 50 // 20 steps
    kinds = {name for name in found if name.startswith("distance/population")}
    assert kinds == {"distance/population 30", "distance/population"}
    assert found["distance/population 30"][-1] > 0
    hits = 20 * np.array(found["accuracy/batch"])  # of 20 images
    np.testing.assert_allclose(hits, hits.round(), atol=1e-4)


def test_the_same_seed_gives_the_same(bench: Workbench, compared: History) -> None:
    assert run(compare, bench, SHALLOW, 3) == compared
    assert run(compare, bench, SHALLOW, 4)["val_loss"] != compared["val_loss"]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_comparison_ends_where_the_run_diverges(bench: Workbench) -> None:
    found = run(compare, bench, SHALLOW.but(learning_rate=1e30), 0)
    assert found["step"][-1] < 15
    assert not math.isfinite(found["val_loss"][-1])


@pytest.mark.parametrize("norm", [None, "layer", "renorm"])
def test_without_batch_normalisation_there_is_nothing_to_compare(
    norm: str | None, bench: Workbench
) -> None:
    with pytest.raises(ValueError, match=f"norm={norm!r} is impossible here"):
        run(compare, bench, SHALLOW.but(norm=norm), 0)
