from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bn_tutorial.engines import observe, probes
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.observe import (
    branches,
    covariate_shift,
    drift,
    gradient_norms,
    landscape,
    weight_geometry,
)
from bn_tutorial.engines.probes import QUANTILES, UNITS
from bn_tutorial.engines.single import METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from tests.benches import fit, run

#: 100 images: in one epoch five steps, all of the same size.
RECIPE = Recipe(
    width=8,
    depth=2,
    norm="batch",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=20,
    epochs=3,
    train_size=100,
)


# Probes in every epoch

SHARES = ("1%", "3%", "10%")


@pytest.mark.parametrize(
    ("observed", "names"),
    [
        (
            covariate_shift,
            {
                f"{name} {share}/{layer}"
                for name in ("shift", "shift_absolute", "cosine")
                for share in SHARES
                for layer in (0, 1)
            }
            | {f"{name}/{layer}" for name in ("mean", "deviation") for layer in (0, 1)}
            | {f"quantiles/{index}" for index in range(40)},
        ),
        (
            landscape,
            {
                f"{name} {share}"
                for name in (
                    *("landscape_low", "landscape_high"),
                    *("gradient_change", "gradient_change_absolute", "beta"),
                )
                for share in SHARES
            },
        ),
        (
            weight_geometry,
            {f"{name}/{i}" for name in ("norm", "gradient_norm", "alignment") for i in (0, 1)},
        ),
    ],
)
def test_observing_changes_no_training(observed: Any, names: set[str], bench: Workbench) -> None:
    history = run(observed, bench, RECIPE, 1)
    alone = fit(bench, RECIPE, 1)
    assert {name: history[name] for name in alone} == alone
    drifts = {f"{name}/{layer}" for name in ("drift", "shape") for layer in (0, 1)}
    drifts = drifts if observed is covariate_shift else set()
    parts = {"val_accuracy/0", "val_accuracy_population/0"}  # of the few test images, one
    assert set(history) == {*METRICS, *parts, *names, *drifts}
    assert {len(history[name]) for name in names} == {3}
    assert {len(history[name]) for name in drifts} <= {2}
    for values in history.values():
        assert all(math.isfinite(value) for value in values)


def test_an_engine_has_the_name_of_what_it_measures() -> None:
    for engine in (branches, covariate_shift, gradient_norms, landscape, weight_geometry):
        assert getattr(observe, engine.__name__) is engine
        assert hasattr(probes, engine.__name__)


def test_what_is_observed_is_of_the_next_batch_and_of_fixed_images(bench: Workbench) -> None:
    recipe, tiny = RECIPE.but(epochs=1, inputs="standardized"), bench.data
    history = run(covariate_shift, bench, recipe, 1)
    model = bench.program(recipe).model
    pixel_mean, pixel_std = bench.pixel_statistics(recipe, 1)
    inputs = (tiny.x_train.astype(np.float32) - pixel_mean) / pixel_std
    batch = epoch_order(1, 1, 100)[:20]
    for share in (0.01, 0.03, 0.1):
        expected = probes.covariate_shift(model, inputs[batch], tiny.y_train[batch], share)
        for name, values in expected.items():
            for layer, value in enumerate(values.numpy()):
                found = history[f"{name} {share:.0%}/{layer}"]
                assert found == pytest.approx([value], rel=1e-3, abs=1e-4)
    described = probes.preactivations(model, inputs)
    for name in ("mean", "deviation"):
        for layer, value in enumerate(described[name].numpy()):
            assert history[f"{name}/{layer}"] == pytest.approx([value], rel=1e-3, abs=1e-5)
    last = described["quantiles"].numpy().reshape(2, UNITS, len(QUANTILES))[-1, :4]
    found = [history[f"quantiles/{index}"][0] for index in range(40)]
    np.testing.assert_allclose(found, last.ravel(), rtol=1e-3, atol=1e-4)


def test_drift_is_in_units_of_the_quantiles_range() -> None:
    # two layers whose units have ranges 1, 2, …, 16; the second layer's units then move by half
    # of their range, and by all of it
    layer = np.outer(np.arange(1, UNITS + 1), np.array(QUANTILES) / 0.7)
    first, second, third = (
        np.array([layer, layer + step * np.arange(1, UNITS + 1)[:, None]]) for step in (0, 0.5, 1.5)
    )
    np.testing.assert_allclose(drift(first, second), [0, 0.5])
    np.testing.assert_allclose(drift(second, third), [0, 1])


def test_the_drift_of_a_row_is_from_the_row_before(bench: Workbench) -> None:
    seen = []

    def noted(before: Any, now: Any) -> Any:
        seen.append((before, now))
        return np.array([len(seen), 0.0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "drift", noted)
        history = run(covariate_shift, bench, RECIPE, 1)
    # the shape's first, then that of the quantiles as they are
    (shape, _), (_, second), _, (again, third) = seen
    assert second is again
    assert history["drift/0"] == [2, 4]
    assert history["shape/0"] == [1, 3]
    np.testing.assert_allclose(shape.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(shape.std(axis=-1), 1, rtol=1e-5)
    for index in range(40):
        found = [row[-1, :4].ravel()[index] for row in (second, third)]
        assert history[f"quantiles/{index}"][1:] == found


def test_all_runs_on_the_same_images_share_a_probe(bench: Workbench) -> None:
    run(covariate_shift, bench, RECIPE.but(epochs=1), 5)
    one = bench.program(RECIPE)
    before = one.probe.cache_info().misses
    run(covariate_shift, bench, RECIPE.but(epochs=1, learning_rate=0.2), 6)
    assert one.probe.cache_info().misses == before


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_run_that_diverges_can_be_observed(bench: Workbench) -> None:
    recipe = RECIPE.but(norm=None, learning_rate=1e30)
    assert len(run(covariate_shift, bench, recipe)["loss"]) == 1


# Gradients of a network that is not trained


def test_gradients_are_those_of_the_first_batch_before_training(bench: Workbench) -> None:
    recipe = RECIPE.but(depth=3, validation=20, train_size=80)
    history = run(gradient_norms, bench, recipe, 1)
    used = bench.data.draw(1, 80, 20)
    model, batch = build(recipe, 1), epoch_order(1, 0, 80)[:20]
    inputs = used.x_train[batch].astype(np.float32) / 255
    expected = probes.gradient_norms(model, inputs, used.y_train[batch]).numpy()
    assert [history[f"gradient/{layer}"] for layer in range(3)] == [
        pytest.approx([value]) for value in expected
    ]
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


def test_gradients_depend_on_seed_and_batch(bench: Workbench) -> None:
    def first(recipe: Recipe, seed: int = 0) -> list[float]:
        return run(gradient_norms, bench, recipe, seed)["gradient/0"]

    assert first(RECIPE) != first(RECIPE, 1)
    assert first(RECIPE.but(batch_size=10)) != first(RECIPE)
    assert first(RECIPE) == first(RECIPE)


# Branches of a network that is not trained


@pytest.mark.parametrize("norm", [None, "batch"])
def test_branches_are_those_of_the_first_batch_before_training(
    norm: str | None, bench: Workbench
) -> None:
    recipe = RECIPE.but(depth=4, residual="sum", norm=norm, inputs="standardized")
    history = run(branches, bench, recipe, 1)
    assert set(history) == {"branch/0", "branch/1", "branch/2", "loss"}
    first = epoch_order(1, 0, 100)[:20]
    pixel_mean, pixel_std = bench.pixel_statistics(recipe, 1)
    pixels, labels = bench.data.x_train[first].astype(float), bench.data.y_train[first]
    values, *hidden, head = (
        layer.get_weights() for layer in build(recipe, 1).layers if hasattr(layer, "kernel")
    )
    total = ((pixels - pixel_mean) / pixel_std).reshape(20, -1) @ values[0] + values[1]

    def read(total: Any) -> Any:
        if norm:
            total = (total - total.mean(axis=0)) / np.sqrt(total.var(axis=0) + 1e-3)
        return np.maximum(total, 0)

    for index, (kernel, bias) in enumerate(hidden):
        branch = read(total) @ kernel + bias
        sizes = [np.sqrt(one.var(axis=0).mean()) for one in (branch, total)]
        assert history[f"branch/{index}"] == pytest.approx([sizes[0] / sizes[1]], rel=1e-4)
        total = total + branch
    logits = read(total) @ head[0] + head[1]
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(20), labels]
    assert history["loss"] == pytest.approx([losses.mean()], rel=1e-4)


def test_normalised_branches_are_smaller_and_smaller_beside_their_sum(bench: Workbench) -> None:
    recipe = Recipe(
        width=256, depth=9, residual="sum", initializer="he_normal", batch_size=100, train_size=100
    )

    def sizes(norm: str | None) -> Any:
        history = run(branches, bench, recipe.but(norm=norm, inputs="standardized"))
        return np.array([history[f"branch/{index}"][0] for index in range(8)])

    # a branch has a variance of about 1 − 1/π; the sum grows by as much
    normalised = sizes("batch")
    expected = 1 / np.sqrt(normalised[0] ** -2.0 + np.arange(8))
    np.testing.assert_allclose(normalised, expected, rtol=0.1)
    assert normalised[-1] < 0.6 * normalised[0]
    assert sizes(None).min() > 0.6  # without, each is about as large as its sum


@pytest.mark.parametrize("changes", [{}, {"residual": "sum", "depth": 1}])
def test_without_branches_there_is_nothing_to_measure(
    changes: dict[str, Any], bench: Workbench
) -> None:
    with pytest.raises(ValueError, match="is impossible here: there must be a branch"):
        run(branches, bench, RECIPE.but(**changes))
