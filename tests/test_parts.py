"""Networks of which a part is trained, or whose statistics are held."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines import parts, single
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.parts import (
    affine_alone,
    held_after_an_epoch,
    held_from_the_start,
    shift_at_64,
    whole,
)
from bn_tutorial.engines.program import Program
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms, population_statistics
from bn_tutorial.recipe import Recipe
from tests.benches import fit, run

#: In one epoch four steps; 20 images are validated on.
RECIPE = Recipe(
    width=8, depth=2, norm="batch", optimizer="sgd", learning_rate=0.01,
    batch_size=20, epochs=3, train_size=80, validation=20,
)  # fmt: skip


def inputs(bench: Workbench, recipe: Recipe, seed: int) -> tuple[Any, Any]:
    """Return what a network is trained on, from 0 to 1, and the classes."""
    used = bench.data.draw(seed, recipe.train_size, recipe.validation)
    return used.x_train.astype(np.float32) / 255, used.y_train


def population(model: Any, images: Any) -> Any:
    found = population_statistics(model, lambda indices: tf.gather(images, indices), len(images))
    return [value.numpy() for pair in found for value in pair]


def moving(model: Any) -> Any:
    return [
        value.numpy()
        for one in batch_norms(model)
        for value in (one.moving_mean, one.moving_variance)
    ]


def same_in_common(history: History, other: History) -> None:
    """Both are equal where both have measured, which is at least at the end."""
    assert {"loss", "val_loss", "fit_accuracy", "test_accuracy_population"} <= set(history)
    for name in set(history) & set(other):
        count = min(len(history[name]), len(other[name]))
        assert history[name][-count:] == other[name][-count:], name
    assert len(history["loss"]) == len(other["loss"]) == RECIPE.epochs


def close(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    for one, another in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, another, rtol=rtol, atol=1e-6)


# All of it


@pytest.mark.parametrize("norm", ["batch", None])
def test_the_whole_is_trained_as_by_the_usual_engine(norm: str | None, bench: Workbench) -> None:
    recipe = RECIPE.but(norm=norm)
    history = run(whole, bench, recipe, 1)
    same_in_common(history, fit(bench, recipe, 1))
    norms = [one for one in bench.program(recipe).model.layers if hasattr(one, "gamma")]
    for name in ("gamma", "beta"):
        expected = np.concatenate([[], *(getattr(one, name).numpy() for one in norms)])
        found = [history[key] for key in history if key.startswith(f"{name}/")]
        np.testing.assert_array_equal(np.ravel(found), expected)
        assert len(expected) == (16 if norm else 0)


# Statistics that are held


def test_statistics_held_from_the_start_are_the_initial_population_s(bench: Workbench) -> None:
    expected = population(build(RECIPE, 1), inputs(bench, RECIPE, 1)[0])
    model = bench.program_of(parts.Held, RECIPE).model
    first: list[Any] = []
    rows = []
    for row in held_from_the_start(bench, RECIPE, 1):
        rows.append(row)
        close(moving(model), expected)
        first = first or moving(model)
        for one, another in zip(moving(model), first, strict=True):
            np.testing.assert_array_equal(one, another)
    for name in ("val_loss", "test_loss"):
        assert rows[-1][name] == rows[-1][f"{name}_population"]


def test_a_network_with_held_statistics_is_trained_as_a_fixed_map(bench: Workbench) -> None:
    """By hand: the normalisers are in inference mode, and all variables go down the gradient."""
    history = run(held_from_the_start, bench, RECIPE, 1)
    trained = bench.program_of(parts.Held, RECIPE).model
    model, (images, labels) = build(RECIPE, 1), inputs(bench, RECIPE, 1)
    for norm, pair in zip(
        batch_norms(model), np.reshape(population(model, images), (2, 2, 8)), strict=True
    ):
        norm.moving_mean.assign(pair[0])
        norm.moving_variance.assign(pair[1])
    losses = []
    for epoch in range(RECIPE.epochs):
        order = epoch_order(1, epoch, 80)
        for batch in order.reshape(-1, 20):
            with tf.GradientTape() as tape:
                chances = model(images[batch], training=False)
                loss = tf.reduce_mean(
                    keras.losses.sparse_categorical_crossentropy(labels[batch], chances)
                )
            variables = model.trainable_variables
            for one, slope in zip(variables, tape.gradient(loss, variables), strict=True):
                one.assign_sub(0.01 * slope)
            losses.append(float(loss))
    np.testing.assert_allclose(
        history["loss"], np.mean(np.reshape(losses, (3, 4)), axis=1), rtol=1e-4
    )
    close(trained.get_weights(), model.get_weights(), rtol=1e-3)
    assert losses[-1] < losses[0]


def test_statistics_are_held_after_an_epoch(bench: Workbench) -> None:
    model, rows = bench.program_of(parts.Held, RECIPE).model, []
    seen: list[Any] = []
    for row in held_after_an_epoch(bench, RECIPE, 1):
        rows.append(row)
        seen.append(moving(model))
    whole_loss = run(whole, bench, RECIPE, 1)["loss"]
    assert rows[0]["loss"] == whole_loss[0]
    assert not {row["loss"] for row in rows[1:]} & set(whole_loss)
    fit(bench, RECIPE.but(epochs=1), 1)
    usual = bench.program(RECIPE).model
    close(seen[0], moving(usual), rtol=1e-6)
    close(seen[1], population(usual, inputs(bench, RECIPE, 1)[0]))
    for one, another in zip(seen[1], seen[2], strict=True):
        np.testing.assert_array_equal(one, another)
    assert rows[-1]["val_loss"] == rows[-1]["val_loss_population"]


def test_nothing_is_held_in_the_run_after(bench: Workbench) -> None:
    first = run(whole, bench, RECIPE, 1)
    run(held_from_the_start, bench, RECIPE, 1)
    assert run(whole, bench, RECIPE, 1) == first
    assert run(held_from_the_start, bench, RECIPE, 1) != first


# γ and β alone


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_kernels_and_biases_stay_where_they_start(optimizer: str, bench: Workbench) -> None:
    recipe = RECIPE.but(optimizer=optimizer, weight_decay=0.1)
    history = run(affine_alone, bench, recipe, 1)
    model, start = bench.program_of(parts.AffineAlone, recipe).model, build(recipe, 1)
    for one, other in zip(model.variables, start.variables, strict=True):
        assert np.array_equal(one, other) == (one.name in ("kernel", "bias")), one.path
    assert history["loss"][-1] < history["loss"][0]
    gammas = [history[f"gamma/{index}"][0] for index in range(16)]
    np.testing.assert_array_equal(gammas, np.ravel([one.gamma for one in batch_norms(model)]))


@pytest.mark.parametrize("engine", [whole, held_from_the_start, held_after_an_epoch, affine_alone])
def test_engines_of_parts_yield_what_the_usual_one_does(engine: Any, bench: Workbench) -> None:
    history = run(engine, bench, RECIPE, 2)
    affine = {f"{name}/{index}" for name in ("gamma", "beta") for index in range(16)}
    assert set(history) == set(fit(bench, RECIPE, 2)) | affine
    assert all(math.isfinite(value) for values in history.values() for value in values)
    assert len(history["loss"]) == RECIPE.epochs
    for name in (*single.TEST_METRICS, *affine):
        assert len(history[name]) == 1


# β at another rate


def test_shifts_go_64_times_as_far(bench: Workbench) -> None:
    recipe = RECIPE.but(batch_size=80, epochs=1)  # one step
    start = build(recipe, 1).get_weights()
    history, alone = run(shift_at_64, bench, recipe, 1), fit(bench, recipe, 1)
    assert history["loss"] == alone["loss"]
    assert history["test_loss"] != alone["test_loss"]
    ours, theirs = (
        bench.program_of(kind, recipe).model.weights for kind in (parts.ShiftAt64, Program)
    )
    for one, other, then in zip(ours, theirs, start, strict=True):
        if one.name == "beta":
            np.testing.assert_allclose(one - then, 64 * (other - then), rtol=1e-5)
            assert np.abs(one - then).max() > 1e-3
        else:
            np.testing.assert_array_equal(one, other, err_msg=one.path)


# What is refused


@pytest.mark.parametrize("norm", [None, "layer", "dyt"])
def test_where_nothing_can_be_held_that_is_said(norm: str | None, bench: Workbench) -> None:
    for engine in (held_from_the_start, held_after_an_epoch):
        with pytest.raises(ValueError, match=f"^norm={norm!r} is impossible here"):
            run(engine, bench, RECIPE.but(norm=norm))


def test_a_rate_that_the_gradient_s_size_does_not_change_is_refused(bench: Workbench) -> None:
    with pytest.raises(ValueError, match=r"^optimizer='adam' is impossible here"):
        run(shift_at_64, bench, RECIPE.but(optimizer="adam"))


def test_where_there_is_no_gamma_and_no_beta_that_is_said(bench: Workbench) -> None:
    for changes in ({"norm": None}, {"norm_options": {"center": False, "scale": False}}):
        with pytest.raises(ValueError, match="has neither γ nor β"):
            run(affine_alone, bench, RECIPE.but(**changes))
