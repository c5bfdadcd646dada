"""Averages of weights, and the statistics with which they are used."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.weights import MOMENTUM, Averaging, average
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms, population_statistics
from bn_tutorial.recipe import Recipe
from tests.benches import at_end, fit, run

#: In one epoch four steps; 20 images are validated on, and 40 tested on.
RECIPE = Recipe(
    width=8, depth=2, norm="batch", optimizer="sgd", learning_rate=0.1,
    batch_size=20, epochs=4, train_size=80, validation=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def averaged(bench: Workbench) -> History:
    return run(average, bench, RECIPE, 1)


def inputs(bench: Workbench) -> tuple[Any, Any, Any, Any]:
    """Return what is trained on and what is tested on, from 0 to 1, each with its classes."""
    used = bench.data.draw(1, 80, 20)
    images = (one.astype(np.float32) / 255 for one in (used.x_train, bench.data.x_test))
    train, test = images
    return train, used.y_train, test, bench.data.y_test


def recorded(bench: Workbench, epochs: int) -> list[list[Any]]:
    """Return the values of all variables after each step of the usual program."""
    program, found = bench.program(RECIPE), []
    program.start(RECIPE, 1)
    (images, labels), *_ = bench.resident(RECIPE, 1)
    pixels = bench.pixel_statistics(RECIPE, 1)
    for epoch in range(epochs):
        for batch in epoch_order(1, epoch, 80).reshape(-1, 20):
            program.train(20)(images, labels, batch, *pixels)
            found.append(program.values())
    return found


def by_hand(steps: list[list[Any]]) -> list[Any]:
    """Average exponentially; the first step is the start."""
    found = [value.astype(float) for value in steps[0]]
    for values in steps[1:]:
        found = [0.99 * old + 0.01 * new for old, new in zip(found, values, strict=True)]
    return found


def accuracies(bench: Workbench, values: list[Any], raw: list[Any]) -> dict[str, float]:
    """Return the accuracy of a Keras model with averaged weights, by statistics."""
    model, trained = build(RECIPE, 1), build(RECIPE, 1)
    train, _, test, labels = inputs(bench)
    for one, given in ((model, values), (trained, raw)):
        for variable, value in zip(one.variables, given, strict=True):
            variable.assign(value)
    population = population_statistics(model, lambda indices: tf.gather(train, indices), 80, 80)
    kinds = {
        "averaged": [
            (one.moving_mean.numpy(), one.moving_variance.numpy()) for one in batch_norms(model)
        ],
        "raw": [(one.moving_mean, one.moving_variance) for one in batch_norms(trained)],
        "recomputed": population,
    }
    found = {}
    for kind, statistics in kinds.items():
        for norm, (mean, variance) in zip(batch_norms(model), statistics, strict=True):
            norm.moving_mean.assign(mean)
            norm.moving_variance.assign(variance)
        found[kind] = float((model(test).numpy().argmax(axis=1) == labels).mean())
    return found


def test_averaging_changes_no_training(bench: Workbench, averaged: History) -> None:
    alone = fit(bench, RECIPE, 1)
    values = bench.program(RECIPE).values()
    for name in set(averaged) & set(alone):
        assert averaged[name] == alone[name][-len(averaged[name]) :], name
    assert set(alone) <= set(averaged)
    run(average, bench, RECIPE, 1)
    for one, other in zip(bench.program_of(Averaging, RECIPE).values(), values, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_average_from_step_to_step_is_that_of_numpy(bench: Workbench) -> None:
    assert MOMENTUM == 0.99
    for epochs in (1, 2):
        run(average, bench, RECIPE.but(epochs=epochs), 1)
        found = bench.program_of(Averaging, RECIPE).averaged
        expected = by_hand(recorded(bench, epochs))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_the_average_from_step_to_step_is_that_of_keras(bench: Workbench) -> None:
    run(average, bench, RECIPE.but(epochs=2), 1)
    program, model = bench.program_of(Averaging, RECIPE), build(RECIPE, 1)
    rule = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=MOMENTUM)
    model.compile(rule, "sparse_categorical_crossentropy", jit_compile=False)
    images, labels, *_ = inputs(bench)
    order = np.concatenate([epoch_order(1, epoch, 80) for epoch in range(2)])
    model.fit(images[order], labels[order], batch_size=20, shuffle=False, verbose=0)
    ours = {
        one.path: kept for one, kept in zip(program.model.variables, program.averaged, strict=True)
    }
    for mine, theirs in zip(
        program.model.trainable_variables, model.trainable_variables, strict=True
    ):
        np.testing.assert_allclose(ours[mine.path], theirs, rtol=1e-4, atol=1e-6)


def test_both_averages_are_scored_with_three_kinds_of_statistics(
    bench: Workbench, averaged: History
) -> None:
    steps = recorded(bench, RECIPE.epochs)
    ends = steps[3::4]
    swa = [np.mean(values, axis=0) for values in zip(*ends[2:], strict=True)]
    for name, values in (("ema", by_hand(steps)), ("swa", swa)):
        for kind, expected in accuracies(bench, values, ends[-1]).items():
            found = at_end(averaged, f"accuracy/{name} {kind}")
            assert found == pytest.approx(expected, abs=1e-6), (name, kind)
    kinds = {at_end(averaged, f"accuracy/ema {kind}") for kind in ("raw", "averaged", "recomputed")}
    assert len(kinds) > 1  # so that they can be told apart


def test_a_network_with_dropout_can_be_averaged(bench: Workbench) -> None:
    recipe = RECIPE.but(dropout=0.3, epochs=2)
    history = run(average, bench, recipe, 1)
    alone = fit(bench, recipe, 1)
    assert history["loss"] == alone["loss"]
    assert all(math.isfinite(value) for values in history.values() for value in values)


def test_of_one_epoch_the_end_is_the_average(bench: Workbench) -> None:
    history = run(average, bench, RECIPE.but(epochs=1), 1)
    expected = fit(bench, RECIPE.but(epochs=1), 1)
    for kind, name in (("raw", ""), ("averaged", ""), ("recomputed", "_population")):
        found = at_end(history, f"accuracy/swa {kind}")
        assert found == pytest.approx(expected[f"test_accuracy{name}"][-1])
