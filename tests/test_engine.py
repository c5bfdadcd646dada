from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single
from bn_tutorial.engines.single import (
    FIT_METRICS,
    METRICS,
    TEST_METRICS,
    History,
    epoch_order,
    fit,
    scaling,
)
from bn_tutorial.networks.backend import GPUS, keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.runs import Run

#: 100 images: three batches, and a last one of 4.
PLAIN = Recipe(width=8, epochs=3)
NORMALIZED = PLAIN.but(norm="batch")
DROPOUT = NORMALIZED.but(dropout=0.3, batch_size=50, epochs=2)


@contextlib.contextmanager
def no_programs_yet() -> Iterator[None]:
    """Forget, for a while, what has been compiled before."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "_program", functools.cache(single._program.__wrapped__))
        patch.setattr(single, "WORTH_COMPILING", 0)  # as if all these short runs were long
        yield


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """Keep compiled programs for all tests of this module, and free them then."""
    with no_programs_yet():
        yield
    single._resident.cache_clear()


def program(recipe: Recipe) -> Any:
    """Return the program that `fit` uses; its model is as the last run left it."""
    return single._program(*single.signature(recipe), (32, 32, 3), 10)


def scaled(images: Any, recipe: Recipe, data: Dataset) -> Any:
    shift, scale = scaling(recipe, data)
    return (images.astype(np.float32) - shift) / scale


def keras_fit(recipe: Recipe, data: Dataset, seed: int, *, jit: bool = False) -> tuple[Any, Any]:
    """Train with Keras's own loop, on the same batches; return its history and its model."""
    model = build(recipe, seed)
    optimizer = keras.optimizers.get(recipe.optimizer)
    optimizer.learning_rate = recipe.learning_rate
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=jit,
    )
    inputs = scaled(data.x_train, recipe, data)
    test = (scaled(data.x_test, recipe, data), data.y_test)
    history: dict[str, list[float]] = {}
    for epoch in range(recipe.epochs):
        order = epoch_order(seed, epoch, len(inputs))
        found = model.fit(
            inputs[order],
            data.y_train[order],
            shuffle=False,
            batch_size=recipe.batch_size,
            validation_data=test,
            validation_batch_size=len(test[1]),
            verbose=0,
        )
        for name, (value,) in found.history.items():
            history.setdefault(name, []).append(value)
    return history, model


def assert_close(found: History, expected: History, rtol: float) -> None:
    assert set(found) == set(METRICS)
    assert set(expected) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, err_msg=name)


# The same as Keras. Where nothing is said, differences are those of float32 (1.2e-7).


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_plain_network_is_trained_as_by_keras(optimizer: str, tiny: Dataset) -> None:
    recipe = PLAIN.but(optimizer=optimizer)
    found = fit(recipe, tiny, 3)
    expected, model = keras_fit(recipe, tiny, 3)
    assert_close(found, expected, rtol=1e-6)
    for weight, other in zip(program(recipe).model.weights, model.weights, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-6, err_msg=weight.path)
    assert found["val_loss_population"] == found["val_loss"]
    assert found["val_accuracy_population"] == found["val_accuracy"]


@pytest.mark.parametrize(("norm", "options"), [("ghost", {"size": 8}), ("renorm", {})])
def test_compiling_changes_nothing(
    norm: str, options: dict[str, int], tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = PLAIN.but(norm=norm, norm_options=options)
    found = fit(recipe, tiny, 3)
    monkeypatch.setattr(single, "WORTH_COMPILING", 1000)
    for name, values in fit(recipe, tiny, 3).items():
        np.testing.assert_allclose(found[name], values, rtol=5e-5, err_msg=name)


@pytest.fixture(scope="module")
def normalized(tiny: Dataset) -> tuple[History, History, Any, list[Any]]:
    """Train with batch normalisation: our history, Keras's, Keras's model, our weights."""
    found = fit(NORMALIZED, tiny, 3)
    ours = [weight.numpy() for weight in program(NORMALIZED).model.weights]
    return found, *keras_fit(NORMALIZED, tiny, 3), ours


def test_a_batch_normalised_network_is_trained_as_by_keras(normalized: Any) -> None:
    found, expected, model, ours = normalized
    assert_close(found, expected, rtol=5e-5)
    for weight, other in zip(ours, model.weights, strict=True):
        if other is model.layers[1].bias:
            # normalisation takes the hidden layer's bias out again: its gradient is rounding
            # noise, which Adam makes into steps of the learning rate
            assert np.abs(weight).max() < 12 * NORMALIZED.learning_rate
            continue
        # the moving mean follows that bias
        atol = 12e-3 if other is model.layers[2].moving_mean else 2e-5
        np.testing.assert_allclose(weight, other, atol=atol, err_msg=other.path)


def test_population_metrics_are_those_with_recomputed_statistics(
    normalized: Any, tiny: Dataset
) -> None:
    found, _, model, _ = normalized
    inputs = scaled(tiny.x_train, NORMALIZED, tiny).reshape(100, -1).astype(np.float64)
    kernel, bias = model.layers[1].get_weights()
    values = inputs @ kernel + bias
    kept = model.get_weights()
    model.layers[2].moving_mean.assign(values.mean(axis=0))
    model.layers[2].moving_variance.assign(values.var(axis=0))
    test = scaled(tiny.x_test, NORMALIZED, tiny)
    loss, accuracy = model.evaluate(test, tiny.y_test, batch_size=40, verbose=0)
    model.set_weights(kept)
    assert found["val_loss_population"][-1] == pytest.approx(loss, rel=5e-5)
    assert found["val_accuracy_population"][-1] == pytest.approx(accuracy, rel=1e-6)
    assert abs(loss - found["val_loss"][-1]) > 1e-2  # so the two can be told apart


def test_dropout_is_that_of_keras(tiny: Dataset) -> None:
    expected, _ = keras_fit(DROPOUT, tiny, 3, jit=True)  # XLA draws other numbers than without
    assert_close(fit(DROPOUT, tiny, 3), expected, rtol=5e-5)


# Repetition


def test_the_same_seed_gives_the_same_history_bit_for_bit(tiny: Dataset) -> None:
    first = fit(DROPOUT, tiny, 3)
    other = fit(DROPOUT, tiny, 4)
    again = fit(DROPOUT, tiny, 3)
    with no_programs_yet():
        fresh = fit(DROPOUT, tiny, 3)
    assert first == again == fresh
    for name in ("loss", "val_loss", "val_loss_population"):
        assert not set(first[name]) & set(other[name])


def test_what_changes_no_code_is_compiled_once(tiny: Dataset) -> None:
    recipes = [
        PLAIN,
        PLAIN.but(learning_rate=0.1, epochs=1),
        PLAIN.but(inputs="standardized", epochs=2),
        PLAIN.but(initializer="he_normal", init_scale=0.5, epochs=1),
    ]
    histories = [fit(recipe, tiny, seed) for recipe in recipes for seed in (0, 1)]
    one = program(PLAIN)
    assert all(program(recipe) is one for recipe in recipes)
    assert one.train(32).experimental_get_tracing_count() == 1
    assert one.evaluate.experimental_get_tracing_count() == 1
    assert len({history["loss"][0] for history in histories}) == len(histories)
    assert [len(history["loss"]) for history in histories] == [3, 3, 1, 1, 2, 2, 1, 1]


def test_no_run_is_touched_by_the_one_before(tiny: Dataset) -> None:
    first = fit(NORMALIZED, tiny, 0)
    fit(NORMALIZED.but(learning_rate=1.0), tiny, 1)
    assert fit(NORMALIZED, tiny, 0) == first


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_diverging_run_ends_there(tiny: Dataset) -> None:
    epochs = []
    recipe = PLAIN.but(learning_rate=1e30)
    history = fit(recipe, tiny, 0, lambda: epochs.append(1))
    assert len(epochs) == len(history["loss"]) < recipe.epochs
    assert {len(values) for values in history.values()} == {len(epochs)}
    assert Run(recipe, 0, history, {}).diverged
    assert not Run(PLAIN, 0, fit(PLAIN, tiny, 0), {}).diverged  # the next one is not infected


def test_every_epoch_is_announced(tiny: Dataset) -> None:
    epochs = []
    fit(PLAIN, tiny, 0, lambda: epochs.append(1))
    assert len(epochs) == 3


def test_a_subset_is_what_the_data_say(tiny: Dataset) -> None:
    recipe = PLAIN.but(inputs="standardized")
    assert fit(recipe.but(train_size=50), tiny, 0) == fit(recipe, tiny.subset(50), 0)


def test_held_out_images_are_validated_on_and_the_test_images_looked_at_once(tiny: Dataset) -> None:
    recipe = NORMALIZED.but(inputs="standardized", validation=30, train_size=50)
    history = fit(recipe, tiny, 0)
    plain = recipe.but(validation=0, train_size=None)
    rest = tiny.holdout(30).subset(50)
    assert {name: history[name] for name in METRICS} == fit(plain, rest, 0)
    assert {name: len(history[name]) for name in FIT_METRICS} == dict.fromkeys(FIT_METRICS, 3)
    assert {name: len(history[name]) for name in TEST_METRICS} == dict.fromkeys(TEST_METRICS, 1)
    on_test = dataclasses.replace(rest, x_test=tiny.x_test, y_test=tiny.y_test)
    for name, (value,) in ((name, history[name]) for name in TEST_METRICS):
        expected = fit(plain, on_test, 0)[name.replace("test", "val")][-1]
        assert value == pytest.approx(expected, rel=1e-5)
    on_train = dataclasses.replace(rest, x_test=rest.x_train[:30], y_test=rest.y_train[:30])
    assert history["fit_loss"] == pytest.approx(
        fit(plain, on_train, 0)["val_loss_population"], rel=1e-5
    )


def test_a_short_run_is_not_compiled_by_xla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single, "WORTH_COMPILING", 150)
    recipe = Recipe(batch_size=10, train_size=100)
    compiled = {epochs: single.signature(recipe.but(epochs=epochs))[1] for epochs in (14, 15)}
    assert compiled == {14: False, 15: True}
    assert single.signature(Recipe(epochs=1))[1]
    assert single.signature(Recipe(model="cnn"))[1] == bool(GPUS)


# Probes


def probed(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
    first = inputs[:2, 0, 0, 0]
    return {"size": tf.shape(inputs)[0], "rate": learning_rate, "first": first}


@pytest.mark.parametrize("recipe", [PLAIN, PLAIN.but(model="cnn")], ids=lambda one: str(one.model))
def test_a_probe_sees_the_batch_that_is_next_and_changes_nothing(
    recipe: Recipe, tiny: Dataset
) -> None:
    recipe = recipe.but(learning_rate=0.02, epochs=2)
    plain = fit(recipe, tiny, 0)
    history = fit(recipe, tiny, 0, probe=probed)
    assert {name: history[name] for name in METRICS} == plain
    assert history["size"] == [32, 32]
    assert history["rate"] == pytest.approx([0.02, 0.02])
    first = [tiny.x_train[epoch_order(0, epoch, 100)[0], 0, 0, 0] / 255 for epoch in (1, 2)]
    assert history["first/0"] == pytest.approx(first)
    assert set(history) == {*METRICS, "size", "rate", "first/0", "first/1"}


# Weight decay


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_only_kernels_decay(optimizer: str, tiny: Dataset) -> None:
    recipe = NORMALIZED.but(optimizer=optimizer, learning_rate=1e-9, weight_decay=1e8, epochs=1)
    fit(recipe.but(weight_decay=0.0), tiny, 0)
    before = {v.path: v.numpy() for v in program(recipe.but(weight_decay=0.0)).model.weights}
    fit(recipe, tiny, 0)
    after = {v.path: v.numpy() for v in program(recipe).model.weights}
    assert before  # four steps, each of which leaves 1 − 1e8 · 1e-9 of a kernel
    for (path, old), new in zip(before.items(), after.values(), strict=True):
        share = 0.9**4 if "kernel" in path else 1
        if "moving" not in path and "seed" not in path:
            np.testing.assert_allclose(new, share * old, rtol=1e-4, atol=1e-6, err_msg=path)


def test_many_programs_are_compiled_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: heard.append(record.getMessage()))
    images, labels = np.zeros((8, 1, 1, 1), np.uint8), np.arange(8, dtype=np.int32) % 2
    tf.get_logger().addHandler(handler)
    try:
        for width in range(1, 8):
            recipe = Recipe(width=width, optimizer="sgd", batch_size=8)
            one = single._Program(recipe, False, (1, 1, 1), 2)
            order = epoch_order(0, 0, 8)
            pixels = np.zeros(1, np.float32), np.ones(1, np.float32)
            assert math.isfinite(one.train(8)(images, labels, order, *pixels)[0])
    finally:
        tf.get_logger().removeHandler(handler)
    assert heard == []


# Order and scaling


def test_an_epoch_visits_every_image_in_an_order_of_its_own() -> None:
    orders = [epoch_order(seed, epoch, 100) for seed in (0, 1, 2) for epoch in (0, 1, 2)]
    for order in orders:
        assert order.dtype == np.int32
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert len({order.tobytes() for order in orders}) == len(orders)
    np.testing.assert_array_equal(epoch_order(1, 2, 100), orders[5])


def test_unit_inputs_are_pixels_divided_by_255(tiny: Dataset) -> None:
    shift, scale = scaling(PLAIN, tiny)
    np.testing.assert_array_equal(shift, [0, 0, 0])
    np.testing.assert_array_equal(scale, [255, 255, 255])
    assert shift.dtype == scale.dtype == np.float32


@pytest.mark.parametrize("train_size", [None, 40])
def test_standardized_inputs_have_mean_0_and_deviation_1(
    train_size: int | None, tiny: Dataset
) -> None:
    # colours that differ, and more images than are summed up at once
    random = np.random.default_rng(0)
    images = random.integers(0, [50, 150, 250], (2500, 32, 32, 3)).astype(np.uint8)
    data = Dataset(images, np.arange(2500, dtype=np.int32) % 10, tiny.x_test, tiny.y_test)
    recipe = Recipe(inputs="standardized", train_size=train_size)
    used = (data if train_size is None else data.subset(train_size)).x_train
    shift, scale = scaling(recipe, data)
    np.testing.assert_allclose(shift, used.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(scale, used.std(axis=(0, 1, 2), dtype=np.float64), rtol=1e-6)
    assert shift.dtype == scale.dtype == np.float32


def test_a_colour_that_never_changes_can_be_standardized() -> None:
    images, labels = np.full((20, 32, 32, 3), 7, np.uint8), np.arange(20, dtype=np.int32) % 10
    data = Dataset(images, labels, images, labels)
    inputs = scaled(images, Recipe(inputs="standardized", batch_size=10), data)
    np.testing.assert_array_equal(inputs, np.zeros_like(inputs))


# All models and normalisers


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(model="cnn", width=8, epochs=2, norm="batch", learning_rate=0.01),
        Recipe(model="gru", width=8, epochs=2, learning_rate=0.01),
    ],
    ids=lambda recipe: str(recipe.model),
)
def test_convolutional_and_recurrent_networks_train(recipe: Recipe, tiny: Dataset) -> None:
    history = fit(recipe, tiny, 0)
    assert set(history) == set(METRICS)
    assert all(math.isfinite(value) for values in history.values() for value in values)
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("norm", ["ghost", "renorm", "layer", "group"])
def test_other_normalisers_train(norm: str, tiny: Dataset) -> None:
    options = {"ghost": {"size": 8}, "group": {"groups": 2}}.get(norm, {})
    history = fit(PLAIN.but(norm=norm, norm_options=options, epochs=1), tiny, 3)
    assert all(math.isfinite(value) for (value,) in history.values())
    losses = [history["loss"][0], *(fit(one, tiny, 3)["loss"][0] for one in (PLAIN, NORMALIZED))]
    assert len(set(losses)) == 3  # it is in there, and is not another one
    moving = history["val_loss"] != history["val_loss_population"]
    assert moving == bool(batch_norms(program(PLAIN.but(norm=norm, norm_options=options)).model))
