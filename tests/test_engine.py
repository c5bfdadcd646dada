from __future__ import annotations

import dataclasses
import gc
import logging
import math
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import program, single
from bn_tutorial.engines.batches import epoch_order, pixel_statistics
from bn_tutorial.engines.program import Program, program_key
from bn_tutorial.engines.rows import History, collect, collect_each
from bn_tutorial.engines.single import FIT_METRICS, METRICS, TEST_METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import GPUS, keras, tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms
from bn_tutorial.recipe import NORMALISERS, OPTIMISERS, Recipe
from tests.benches import PARTS, fit

#: 100 images: three batches, and a last one of 4. Where the number is said, runs are short, and not
#: compiled by XLA.
PLAIN = Recipe(width=8, epochs=3, train_size=100)
NORMALIZED = PLAIN.but(norm="batch")
DROPOUT = NORMALIZED.but(dropout=0.3, batch_size=50, epochs=2)


def scaled(images: Any, recipe: Recipe, bench: Workbench) -> Any:
    pixel_mean, pixel_std = bench.pixel_statistics(recipe, 0)
    return (images.astype(np.float32) - pixel_mean) / pixel_std


def keras_fit(recipe: Recipe, bench: Workbench, seed: int) -> tuple[Any, Any]:
    """Train with Keras's own loop, on the same batches; return its history and its model."""
    model, data = build(recipe, seed), bench.data
    optimizer = keras.optimizers.get(recipe.optimizer)
    optimizer.learning_rate = recipe.learning_rate
    model.compile(
        optimizer=optimizer,
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    inputs = scaled(data.x_train, recipe, bench)
    test = (scaled(data.x_test, recipe, bench), data.y_test)
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
    assert set(found) == {*METRICS, *PARTS}
    assert set(expected) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=rtol, err_msg=name)


# The same as Keras. Where nothing is said, differences are those of float32 (1.2e-7).


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_plain_network_is_trained_as_by_keras(optimizer: str, bench: Workbench) -> None:
    recipe = PLAIN.but(optimizer=optimizer)
    found = fit(bench, recipe, 3)
    expected, model = keras_fit(recipe, bench, 3)
    assert_close(found, expected, rtol=1e-6)
    for weight, other in zip(bench.program(recipe).model.weights, model.weights, strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-6, err_msg=weight.path)
    assert found["val_loss_population"] == found["val_loss"]
    assert found["val_accuracy_population"] == found["val_accuracy"]


OPTIONS: dict[str, dict[str, float]] = {
    "ghost": {"size": 8},
    "group": {"groups": 2},
    "partial": {"variance": False},
}


def with_norm(norm: str | None) -> Recipe:
    """Return a small recipe with a normaliser, on a network that allows it."""
    model = "cnn" if norm == "instance" else "mlp"
    return PLAIN.but(model=model, norm=norm, norm_options=OPTIONS.get(norm or "", {}), epochs=2)


@pytest.mark.parametrize("norm", [None, *NORMALISERS])
def test_compiling_by_xla_changes_nothing(
    norm: str | None, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = with_norm(norm)
    plain = fit(bench, recipe, 3)
    monkeypatch.setattr(program, "suits_xla", lambda recipe: True)
    monkeypatch.setattr(program, "WORTH_COMPILING", 0)
    assert program_key(recipe)[1]
    compiled = fit(bench, recipe, 3)
    assert bench.program(recipe).jit
    random = norm is not None and NORMALISERS[norm].random
    assert (compiled["loss"] != plain["loss"]) or not random  # XLA draws other numbers
    for name, values in compiled.items():
        rtol = 0.5 if random else 5e-5
        np.testing.assert_allclose(plain[name], values, rtol=rtol, err_msg=name)


@pytest.fixture(scope="module")
def normalized(bench: Workbench) -> tuple[History, History, Any, list[Any]]:
    """Train with batch normalisation: our history, Keras's, Keras's model, our weights."""
    found = fit(bench, NORMALIZED, 3)
    ours = [weight.numpy() for weight in bench.program(NORMALIZED).model.weights]
    return found, *keras_fit(NORMALIZED, bench, 3), ours


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
    normalized: Any, bench: Workbench
) -> None:
    found, _, model, _ = normalized
    tiny = bench.data
    inputs = scaled(tiny.x_train, NORMALIZED, bench).reshape(100, -1).astype(np.float64)
    kernel, bias = model.layers[1].get_weights()
    values = inputs @ kernel + bias
    kept = model.get_weights()
    model.layers[2].moving_mean.assign(values.mean(axis=0))
    model.layers[2].moving_variance.assign(values.var(axis=0))
    test = scaled(tiny.x_test, NORMALIZED, bench)
    loss, accuracy = model.evaluate(test, tiny.y_test, batch_size=40, verbose=0)
    model.set_weights(kept)
    assert found["val_loss_population"][-1] == pytest.approx(loss, rel=5e-5)
    assert found["val_accuracy_population"][-1] == pytest.approx(accuracy, rel=1e-6)
    assert abs(loss - found["val_loss"][-1]) > 1e-2  # so the two can be told apart


def test_dropout_is_that_of_keras(bench: Workbench) -> None:
    expected, _ = keras_fit(DROPOUT, bench, 3)
    assert_close(fit(bench, DROPOUT, 3), expected, rtol=5e-5)


# Repetition


@pytest.mark.parametrize("jit", [False, True])
def test_the_same_seed_gives_the_same_history_bit_for_bit(
    jit: bool, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "WORTH_COMPILING", 0 if jit else 1000)
    first = fit(bench, DROPOUT, 3)
    other = fit(bench, DROPOUT, 4)
    again = fit(bench, DROPOUT, 3)
    with Workbench(bench.data) as another:
        fresh = fit(another, DROPOUT, 3)
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
    with Workbench(tiny) as bench:
        histories = [fit(bench, recipe, seed) for recipe in recipes for seed in (0, 1)]
        one = bench.program(PLAIN)
        assert all(bench.program(recipe) is one for recipe in recipes)
    assert one.train(32).experimental_get_tracing_count() == 1
    assert one.evaluate.experimental_get_tracing_count() == 1
    assert len({history["loss"][0] for history in histories}) == len(histories)
    assert [len(history["loss"]) for history in histories] == [3, 3, 1, 1, 2, 2, 1, 1]


def test_no_run_is_touched_by_the_one_before(bench: Workbench) -> None:
    first = fit(bench, NORMALIZED, 0)
    fit(bench, NORMALIZED.but(learning_rate=1.0), 1)
    assert fit(bench, NORMALIZED, 0) == first


@pytest.mark.parametrize(
    ("model", "residual"),
    [("mlp", None), ("mlp", "skipinit"), ("cnn", None), ("gru", None)],
)
@pytest.mark.parametrize("norm", ["noisy", "group", "renorm"])
def test_a_run_starts_from_what_is_built_for_its_seed(
    norm: str,
    model: str,
    residual: str | None,
    bench: Workbench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = PLAIN.but(
        model=model,
        residual=residual,
        norm=norm,
        norm_options=OPTIONS.get(norm, {}),
        dropout=0.2,
        depth=2,
        initializer="he_normal",
        init_scale=0.5,
    )
    expected = build(recipe, 7)
    one = bench.program(recipe)
    for variable in (*one.model.variables, *one.optimizer.variables):
        variable.assign(variable + 1)
    for name in ("Sequential", "Model"):
        monkeypatch.setattr(keras, name, None)  # no other model is built
    one.start(recipe, 7)
    for ours, theirs in zip(one.model.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    rest = [v for v in one.optimizer.variables if "learning_rate" not in v.path]
    assert all((variable.numpy() == 0).all() for variable in rest)
    assert float(one.optimizer.learning_rate) == pytest.approx(recipe.learning_rate)


# Rows and histories


def test_a_network_can_be_measured_at_the_end_alone(bench: Workbench) -> None:
    recipe = NORMALIZED.but(validation=20, train_size=80)
    full, rows = [*single.fit(bench, recipe, 0)], [*single.ends(bench, recipe, 0)]
    assert rows[-1] == full[-1]
    assert rows[:-1] == [{name: row[name] for name in ("loss", "accuracy")} for row in full[:-1]]
    some = [*single.fit(bench, recipe.but(epochs=5), 0, every=2)]
    assert [len(row) > 2 for row in some] == [False, True, False, True, True]
    assert some[1] == full[1]


def test_a_row_comes_after_each_epoch(bench: Workbench) -> None:
    rows = list(single.fit(bench, PLAIN, 0))
    assert [set(row) for row in rows] == 3 * [{*METRICS, *PARTS}]
    assert {type(value) for row in rows for value in row.values()} == {float}
    assert collect(rows) == {name: [row[name] for row in rows] for name in (*METRICS, *PARTS)}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_diverging_run_ends_there(bench: Workbench) -> None:
    recipe = PLAIN.but(learning_rate=1e30, validation=20, train_size=80)
    history = fit(bench, recipe, 0)
    epochs = len(history["loss"])
    assert epochs < recipe.epochs
    assert {len(values) for values in history.values()} == {epochs}
    assert not set(TEST_METRICS) & set(history)
    assert not all(math.isfinite(history[name][-1]) for name in ("loss", "val_loss"))
    fine = fit(bench, PLAIN, 0)  # the next one is not infected
    assert all(math.isfinite(value) for values in fine.values() for value in values)


@pytest.mark.parametrize("name", ["loss", "val_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_collecting_ends_with_a_loss_that_is_not_finite_and_closes_the_engine(
    name: str, value: float
) -> None:
    closed = []

    def rows() -> Iterator[dict[str, float]]:
        try:
            yield {"loss": 1.0, "val_loss": 2.0, "accuracy": math.nan}
            yield {"loss": 1.0, "val_loss": 2.0, "accuracy": 0.5} | {name: value}
            raise AssertionError("nobody asks for this one")
        finally:
            closed.append(name)

    engine = rows()
    history = collect(engine)
    assert closed == [name]
    assert {len(values) for values in history.values()} == {2}
    assert str(history[name][-1]) == str(value)


def test_rows_of_several_seeds_are_collected_until_each_diverges() -> None:
    asked = []

    def rows(*lost: int) -> Iterator[tuple[int, dict[str, float]]]:
        for epoch in range(3):
            for seed in (5, 6):
                asked.append((epoch, seed))
                wrong = epoch == 1 and seed in lost
                yield seed, {"loss": math.nan if wrong else float(epoch)}

    histories = collect_each(rows(5), (5, 6))
    assert str(histories) == "{5: {'loss': [0.0, nan]}, 6: {'loss': [0.0, 1.0, 2.0]}}"
    asked.clear()
    assert {len(one["loss"]) for one in collect_each(rows(5, 6), (5, 6)).values()} == {2}
    assert asked[-1] == (1, 6)


def test_a_subset_is_what_its_seed_draws(bench: Workbench) -> None:
    recipe = PLAIN.but(inputs="standardized", train_size=50)
    with Workbench(bench.data.draw(0, 50)) as other:
        assert fit(bench, recipe) == fit(other, recipe)


@pytest.mark.parametrize(("size", "count"), [(50, 50), (None, 70)])
def test_no_image_is_trained_on_that_is_held_out(
    tiny: Dataset, size: int | None, count: int
) -> None:
    with Workbench(tiny) as bench:
        parts = bench.resident(PLAIN.but(validation=30, train_size=size), 0)
    train, validation, test = (
        {image.tobytes() for image in part[0].numpy()} for part in parts if part
    )
    assert [len(part) for part in (train, validation, test)] == [count, 30, len(tiny.x_test)]
    assert not train & validation


def test_held_out_images_are_validated_on_and_the_test_images_looked_at_once(
    bench: Workbench,
) -> None:
    tiny = bench.data
    recipe = NORMALIZED.but(inputs="standardized", validation=30, train_size=50)
    history = fit(bench, recipe)
    plain = recipe.but(validation=0)

    def on(data: Dataset) -> History:
        with Workbench(data) as other:
            return fit(other, plain)

    rest = tiny.draw(0, 50, 30)
    found = on(rest)
    assert {name: history[name] for name in METRICS} == {name: found[name] for name in METRICS}
    assert {name: len(history[name]) for name in FIT_METRICS} == dict.fromkeys(FIT_METRICS, 3)
    assert {name: len(history[name]) for name in TEST_METRICS} == dict.fromkeys(TEST_METRICS, 1)
    on_test = on(dataclasses.replace(rest, x_test=tiny.x_test, y_test=tiny.y_test))
    for name, (value,) in ((name, history[name]) for name in TEST_METRICS):
        assert value == pytest.approx(on_test[name.replace("test", "val")][-1], rel=1e-5)
    on_train = on(dataclasses.replace(rest, x_test=rest.x_train[:30], y_test=rest.y_train[:30]))
    assert history["fit_loss"] == pytest.approx(on_train["val_loss_population"], rel=1e-5)


def test_a_short_run_is_not_compiled_by_xla() -> None:
    recipe = Recipe(batch_size=10, train_size=100)
    compiled = {epochs: program_key(recipe.but(epochs=epochs))[1] for epochs in (14, 15)}
    assert compiled == {14: False, 15: True}
    assert program_key(Recipe(epochs=1))[1]
    assert program_key(Recipe(model="cnn"))[1] == bool(GPUS)


# The bench


class Closable:
    """Something that is kept."""

    def __init__(self, name: str, closed: list[str]) -> None:
        self.name, self.closed = name, closed

    def close(self) -> None:
        self.closed.append(self.name)


def test_a_bench_keeps_the_latest_and_closes_the_others(tiny: Dataset) -> None:
    closed: list[str] = []

    def get(name: str, shelf: str = "shelf") -> Closable:
        return bench.keep(shelf, name, lambda: Closable(name, closed), most=2)

    with Workbench(tiny) as bench:
        a, b = get("a"), get("b")
        assert get("a") is a
        get("c")  # b is what nobody has asked for the longest
        assert closed == ["b"]
        assert get("a") is a
        assert get("b") is not b
        assert closed == ["b", "c"]
        get("d", "another")
        assert closed == ["b", "c"]
    assert sorted(closed) == ["a", "b", "b", "c", "d"]


def test_what_a_bench_compiled_dies_with_it(tiny: Dataset) -> None:
    with Workbench(tiny) as bench:
        fit(bench, PLAIN.but(epochs=1))
        one = weakref.ref(bench.program(PLAIN))
        images = weakref.ref(bench.resident(PLAIN, 0)[0][0])
        assert one() is not None
    gc.collect()
    assert one() is None
    assert images() is None


def test_two_programs_are_kept(tiny: Dataset) -> None:
    recipes = [PLAIN.but(width=width) for width in (2, 3, 4)]
    with Workbench(tiny) as bench:
        first, second, third = map(bench.program, recipes)
        assert bench.program(recipes[2]) is third
        assert bench.program(recipes[1]) is second
        assert bench.program(recipes[0]) is not first


def test_images_are_divided_once_for_all_recipes_that_divide_them_alike(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided = []
    draw = Dataset.draw

    def counted(self: Dataset, *how: Any) -> Dataset:
        divided.append(how)
        return draw(self, *how)

    monkeypatch.setattr(Dataset, "draw", counted)
    recipe = NORMALIZED.but(inputs="standardized", validation=30, train_size=50, epochs=1)
    with Workbench(tiny) as bench:
        fit(bench, recipe)
        fit(bench, recipe.but(inputs="unit"))
        fit(bench, recipe, 1)
        fit(bench, recipe.but(learning_rate=0.5), 1)
    assert divided == [(0, 50, 30), (1, 50, 30)]  # once for each seed


# Probes


def probed(model: Any, inputs: Any, targets: Any, learning_rate: Any) -> dict[str, Any]:
    first = inputs[:2, 0, 0, 0]
    return {"size": tf.shape(inputs)[0], "rate": learning_rate, "first": first}


@pytest.mark.parametrize("recipe", [PLAIN, PLAIN.but(model="cnn")], ids=lambda one: str(one.model))
def test_a_probe_sees_the_batch_that_is_next_and_changes_nothing(
    recipe: Recipe, bench: Workbench
) -> None:
    recipe = recipe.but(learning_rate=0.02, epochs=2)
    plain = fit(bench, recipe)
    history = fit(bench, recipe, probe=probed)
    assert {name: history[name] for name in (*METRICS, *PARTS)} == plain
    assert history["size"] == [32, 32]
    assert history["rate"] == pytest.approx([0.02, 0.02])
    images = bench.data.x_train
    first = [images[epoch_order(0, epoch, 100)[0], 0, 0, 0] / 255 for epoch in (1, 2)]
    assert history["first/0"] == pytest.approx(first)
    assert set(history) == {*METRICS, *PARTS, "size", "rate", "first/0", "first/1"}


# Weight decay


@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_only_kernels_decay(optimizer: str, bench: Workbench) -> None:
    recipe = NORMALIZED.but(optimizer=optimizer, learning_rate=1e-9, weight_decay=1e8, epochs=1)

    def weights(recipe: Recipe) -> dict[str, Any]:
        fit(bench, recipe)
        return {v.path: v.numpy() for v in bench.program(recipe).model.weights}

    before, after = weights(recipe.but(weight_decay=0.0)), weights(recipe)
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
            one = Program(recipe, False, (1, 1, 1), 2)
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


def test_unit_inputs_are_pixels_divided_by_255(bench: Workbench) -> None:
    pixel_mean, pixel_std = bench.pixel_statistics(PLAIN, 0)
    np.testing.assert_array_equal(pixel_mean, [0, 0, 0])
    np.testing.assert_array_equal(pixel_std, [255, 255, 255])
    assert pixel_mean.dtype == pixel_std.dtype == np.float32


@pytest.mark.parametrize("train_size", [None, 40])
def test_standardized_inputs_have_mean_0_and_deviation_1(
    train_size: int | None, tiny: Dataset
) -> None:
    # colours that differ, and more images than are summed up at once
    random = np.random.default_rng(0)
    images = random.integers(0, [50, 150, 250], (2500, 32, 32, 3)).astype(np.uint8)
    data = Dataset(images, np.arange(2500, dtype=np.int32) % 10, tiny.x_test, tiny.y_test)
    recipe = Recipe(inputs="standardized", train_size=train_size)
    used = data.draw(4, train_size).x_train
    with Workbench(data) as bench:
        found = bench.pixel_statistics(recipe, 4)
    for pixel_mean, pixel_std in (found, pixel_statistics(used)):
        np.testing.assert_allclose(pixel_mean, used.mean(axis=(0, 1, 2)), rtol=1e-6)
        std = used.std(axis=(0, 1, 2), dtype=np.float64)
        np.testing.assert_allclose(pixel_std, std, rtol=1e-6)
        assert pixel_mean.dtype == pixel_std.dtype == np.float32


def test_a_colour_that_never_changes_can_be_standardized() -> None:
    images, labels = np.full((20, 32, 32, 3), 7, np.uint8), np.arange(20, dtype=np.int32) % 10
    recipe = Recipe(inputs="standardized", batch_size=10)
    with Workbench(Dataset(images, labels, images, labels)) as bench:
        inputs = scaled(images, recipe, bench)
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
def test_convolutional_and_recurrent_networks_train(recipe: Recipe, bench: Workbench) -> None:
    history = fit(bench, recipe)
    assert set(history) == {*METRICS, *PARTS}
    assert all(math.isfinite(value) for values in history.values() for value in values)
    assert history["loss"][1] < history["loss"][0]


@pytest.mark.parametrize("norm", NORMALISERS)
def test_every_normaliser_trains_and_is_another_one(norm: str, bench: Workbench) -> None:
    recipe = with_norm(norm)
    history = fit(bench, recipe, 3)
    assert all(math.isfinite(value) for values in history.values() for value in values)
    others = [recipe.but(norm=other, norm_options={}) for other in (None, "batch") if other != norm]
    losses = [history["loss"][0], *(fit(bench, one, 3)["loss"][0] for one in others)]
    assert len(set(losses)) == len(losses)
    moving = history["val_loss"] != history["val_loss_population"]
    assert moving == NORMALISERS[norm].moving == bool(batch_norms(bench.program(recipe).model))
