"""Descent on all images, and the largest eigenvalue of the Hessian on the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import program
from bn_tutorial.engines.curvature import ITERATIONS, POINTS, Curvature, edge
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import keras, tf
from bn_tutorial.recipe import Recipe
from tests.benches import Roomy, fit, run

#: Of 30 images of twelve numbers; so slow that the weights all but stand still.
STILL = Recipe(
    width=4, activation="tanh", optimizer="sgd", learning_rate=1e-7,
    batch_size=30, train_size=30, epochs=POINTS,
)  # fmt: skip
NETWORKS = [STILL, STILL.but(norm="batch")]


@pytest.fixture(scope="module")
def few() -> Iterator[Workbench]:
    random = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 3
    sums = random.integers(0, 128, (3, 2, 2, 3))[labels] + random.integers(0, 128, (40, 2, 2, 3))
    images = sums.astype(np.uint8)
    data = Dataset(images[:30], labels[:30], images[30:], labels[30:], classes=("a", "b", "c"))
    with Roomy(data) as bench:
        yield bench


def hessian(bench: Workbench, recipe: Recipe) -> tuple[Any, Any]:
    """Return the Hessian of the loss in training mode, and the slopes of the mean centred logits."""
    model = bench.program_of(Curvature, recipe).model
    inputs = bench.data.x_train.astype(np.float32) / 255
    variables = [one.value for one in model.trainable_variables]
    with tf.GradientTape(persistent=True) as outer:
        with tf.GradientTape() as tape, keras.StatelessScope():
            chances = model(inputs, training=True)
            losses = keras.losses.sparse_categorical_crossentropy(bench.data.y_train, chances)
            loss = tf.reduce_mean(losses)
        slopes = [tf.reshape(slope, [-1]) for slope in tape.gradient(loss, variables)]
        logs = tf.math.log(chances)
        means = tf.reduce_mean(logs - tf.reduce_mean(logs, axis=1, keepdims=True), axis=0)

    def flat(values: Any, variables: Any) -> Any:
        """Return derivatives of a vector by all variables, side by side."""
        parts = outer.jacobian(values, variables, unconnected_gradients="zero")
        return np.concatenate([part.numpy().reshape(values.shape[0], -1) for part in parts], axis=1)

    return np.concatenate([flat(slope, variables) for slope in slopes]), flat(means, variables)


@pytest.mark.parametrize("recipe", NETWORKS, ids=lambda recipe: str(recipe.norm))
def test_the_sharpness_is_the_largest_eigenvalue_of_the_hessian(
    recipe: Recipe, few: Workbench
) -> None:
    history = run(edge, few, recipe, 3)
    dense, slopes = hessian(few, recipe)
    assert len(dense) == 12 * 4 + 4 + 4 * 3 + 3 + (8 if recipe.norm else 0)
    np.testing.assert_allclose(dense, dense.T, atol=1e-4)
    values, vectors = np.linalg.eigh(dense)
    # that of the largest size is another one where the largest is not
    assert values[-1] > 0.1
    assert (-values[0] > values[-1]) == (recipe.norm == "batch")
    np.testing.assert_allclose(history["sharpness"][-5:], values[-1], rtol=1e-4)
    basis, sizes, _ = np.linalg.svd(slopes.T, full_matrices=False)
    assert sizes[-1] < 1e-5 < sizes[1]  # of three means, two are free
    share = np.sum((basis[:, :2].T @ vectors[:, -1]) ** 2)
    assert history["means"][-1] == pytest.approx(share, rel=2e-2)
    assert 1e-3 < share < 0.99


@pytest.mark.parametrize("recipe", NETWORKS, ids=lambda recipe: str(recipe.norm))
def test_it_goes_down_the_whole_loss(recipe: Recipe, few: Workbench) -> None:
    recipe = recipe.but(learning_rate=0.5, epochs=2 * POINTS)
    history = run(edge, few, recipe, 3)
    steps = history["step"]
    assert steps == [2 * point for point in range(1, POINTS + 1)]
    # an epoch of one batch: in training mode, and before its step
    alone = fit(few, recipe, 3)
    for name in ("loss", "accuracy"):
        expected = [alone[name][int(step) - 1] for step in steps]
        np.testing.assert_allclose(history[name], expected, rtol=1e-4)
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert set(history) == {"step", "loss", "accuracy", "sharpness", "means"}


def test_fewer_steps_than_points_are_measured_once_each(few: Workbench) -> None:
    recipe = STILL.but(epochs=5, learning_rate=0.5)
    history = run(edge, few, recipe, 3)
    assert history["step"] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(history["loss"], fit(few, recipe, 3)["loss"], rtol=1e-4)


def test_compiled_by_xla_it_is_the_same(few: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = NETWORKS[1].but(epochs=2, learning_rate=0.1)
    plain = run(edge, few, recipe, 3)
    monkeypatch.setattr(program, "WORTH_COMPILING", 0)
    compiled = run(edge, few, recipe, 3)
    assert few.program_of(Curvature, recipe).jit
    for name, values in plain.items():
        np.testing.assert_allclose(compiled[name], values, rtol=1e-3, err_msg=name)


def test_the_same_seed_gives_the_same(few: Workbench) -> None:
    recipe = NETWORKS[1].but(epochs=3, learning_rate=0.1)
    first = run(edge, few, recipe, 3)
    assert run(edge, few, recipe, 4)["sharpness"] != first["sharpness"]
    assert run(edge, few, recipe, 3) == first


def test_a_step_must_see_all_images(few: Workbench) -> None:
    assert ITERATIONS > 1
    for changes, count in (({"batch_size": 15}, 30), ({"validation": 10, "train_size": None}, 20)):
        with pytest.raises(ValueError, match=f"is impossible here: it must be all {count} images"):
            run(edge, few, STILL.but(**changes))
