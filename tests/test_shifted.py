"""Images that are not those of training, and what a network can do about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import shifted
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.shifted import DRAWS, SHIFTS, Asking, ask, shift
from bn_tutorial.engines.single import TEST_METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import tf
from bn_tutorial.networks.models import build
from bn_tutorial.networks.statistics import batch_norms, population_statistics
from bn_tutorial.recipe import Recipe
from tests.benches import Roomy, at_end, fit, run

#: 40 test images: in batches of 16 the last has 8.
RECIPE = Recipe(
    width=8, depth=2, norm="batch", optimizer="sgd", learning_rate=0.1, inputs="standardized",
    batch_size=20, epochs=3, train_size=80, validation=20,
)  # fmt: skip
COUNTS, BATCH, RATE = (1, 4, 64), 16, 0.3
SEED = 1


@pytest.fixture(scope="module")
def other(tiny: Dataset) -> Iterator[Workbench]:
    """A bench on which statistics are of few images, and steps are long."""
    with pytest.MonkeyPatch.context() as patched, Roomy(tiny) as bench:
        for name, value in (("COUNTS", COUNTS), ("TENT_BATCH", BATCH), ("TENT_RATE", RATE)):
            patched.setattr(shifted, name, value)
        yield bench


@pytest.fixture(scope="module")
def asked(other: Workbench) -> History:
    return run(ask, other, RECIPE, SEED)


@pytest.fixture
def model(other: Workbench, asked: History) -> Any:
    """The network as the usual engine trains it, by Keras."""
    fit(other, RECIPE, SEED)
    trained = build(RECIPE, SEED)
    for one, value in zip(trained.variables, other.program(RECIPE).values(), strict=True):
        one.assign(value)
    return trained


def inputs(bench: Workbench, kind: str = "none") -> tuple[Any, Any]:
    """Return the shifted test images, as the network is given them, and their classes."""
    pixel_mean, pixel_std = bench.pixel_statistics(RECIPE, SEED)
    changed = shift(bench.data.x_test, kind).astype(np.float32)
    return (changed - pixel_mean) / pixel_std, bench.data.y_test


def right(model: Any, images: Any, labels: Any, of: Any) -> float:
    """Return the accuracy with the statistics of some images."""
    found = population_statistics(model, lambda indices: tf.gather(of, indices), len(of), len(of))
    for norm, (mean, variance) in zip(batch_norms(model), found, strict=True):
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign(variance)
    return float((model(images).numpy().argmax(axis=1) == labels).mean())


# Shifts


def test_shifted_images_are_bytes_by_formula() -> None:
    images = np.random.default_rng(1).integers(0, 256, (6, 8, 7, 3)).astype(np.uint8)
    unit = images.astype(np.float32) / 255
    blurred = unit.astype(float)
    for _ in range(6):
        blurred = uniform_filter(blurred, size=(1, 3, 3, 1), mode="wrap")
    grey = unit.mean(axis=(1, 2, 3), keepdims=True)
    expected = {
        "none": unit,
        "noise": unit + np.random.default_rng(0).normal(0, 0.3, images.shape),
        "contrast": grey + 0.35 * (unit - grey),
        "brightness": unit + 0.25,
        "blur": blurred,
    }
    assert set(SHIFTS) == set(expected)
    for name, values in expected.items():
        found = shift(images, name)
        assert found.dtype == np.uint8
        assert found.shape == images.shape
        # half a step apart is rounded either way
        away = np.abs(found - np.clip(255 * values, 0, 255))
        assert away.max() < 0.5 + 1e-3, name
        assert np.array_equal(found, images) == (name == "none")
    assert shift(images, "brightness").max() == 255  # what is brighter is cut off


def test_an_unknown_shift_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"there is no shift 'fog': choose none, noise, .* or blur"
    ):
        shift(np.zeros((1, 2, 2, 3), np.uint8), "fog")


# What is asked


def test_asking_changes_no_training(other: Workbench, asked: History) -> None:
    alone = fit(other, RECIPE, SEED)
    assert set(alone) <= set(asked)
    for name, values in alone.items():
        assert asked[name] == values[-len(asked[name]) :], name
    # nor does it change the network that was trained
    ours, theirs = other.program_of(Asking, RECIPE), other.program(RECIPE)
    for one, another in zip(ours.values(), theirs.values(), strict=True):
        np.testing.assert_array_equal(one, another)


def test_all_is_asked_of_each_shift(asked: History) -> None:
    kinds = ("training", *map(str, COUNTS), "all", "class", "batches", "entropy")
    names = {"/".join(name.split("/")[:3]) for name in asked if name.startswith("accuracy/")}
    assert names == {f"accuracy/{name}/{kind}" for name in SHIFTS for kind in kinds}
    for name, values in asked.items():
        assert len(values) == 1 or not name.startswith("accuracy/")
        assert "accuracy" not in name or 0 <= values[-1] <= 1


def test_with_statistics_of_training_unshifted_images_are_the_test(asked: History) -> None:
    found = at_end(asked, "accuracy/none/training")
    assert found == pytest.approx(asked["test_accuracy_population"][-1], abs=1e-6)
    assert TEST_METRICS[3] == "test_accuracy_population"


@pytest.mark.parametrize("kind", ["contrast", "blur"])
def test_statistics_are_those_of_shifted_images(
    kind: str, other: Workbench, asked: History, model: Any
) -> None:
    images, labels = inputs(other, kind)
    random = np.random.default_rng(SEED)
    draws = [random.permutation(40) for _ in range(DRAWS)]
    classes = [np.flatnonzero(labels == one) for one in range(10)]
    assert {len(one) for one in classes} == {4}
    expected: dict[str, Any] = {
        "all": right(model, images, labels, images),
        "64": right(model, images, labels, images),  # there are no more
        "4": np.mean([right(model, images, labels, images[one[:4]]) for one in draws]),
        "class": np.mean([right(model, images[one], labels[one], images[one]) for one in classes]),
    }
    for name, value in expected.items():
        assert at_end(asked, f"accuracy/{kind}/{name}") == pytest.approx(value, abs=1e-6), name
    assert len({round(value, 6) for value in expected.values()}) == 3  # they can be told apart


@pytest.mark.parametrize("kind", ["none", "brightness"])
def test_gamma_and_beta_go_down_the_entropy(
    kind: str, other: Workbench, asked: History, model: Any
) -> None:
    images, labels = inputs(other, kind)
    affine = [one for one in model.trainable_variables if one.name in ("gamma", "beta")]
    assert len(affine) == 4
    before, shares = model(images[:BATCH], training=True).numpy(), []
    parts = [slice(start, start + BATCH) for start in range(0, 40, BATCH)]
    alone = np.mean([right(model, images[one], labels[one], images[one]) for one in parts])
    assert at_end(asked, f"accuracy/{kind}/batches") == pytest.approx(alone, abs=1e-6)
    for part in parts:
        with tf.GradientTape() as tape:
            chances = model(images[part], training=True)
            entropy = -tf.reduce_mean(tf.reduce_sum(chances * tf.math.log(chances), axis=1))
        for one, slope in zip(affine, tape.gradient(entropy, affine), strict=True):
            one.assign_sub(RATE * slope)
        shares.append((chances.numpy().argmax(axis=1) == labels[part]).mean())
    assert at_end(asked, f"accuracy/{kind}/entropy") == pytest.approx(np.mean(shares))
    after = model(images[:BATCH], training=True).numpy()
    assert -(after * np.log(after)).sum() < -(before * np.log(before)).sum()


def test_a_network_without_batch_normalisation_is_asked_once(other: Workbench) -> None:
    history = run(ask, other, RECIPE.but(norm="layer"), SEED)
    names = {"/".join(name.split("/")[:3]) for name in history if name.startswith("accuracy/")}
    assert names == {f"accuracy/{name}/training" for name in SHIFTS}
    found = at_end(history, "accuracy/none/training")
    assert found == pytest.approx(history["test_accuracy"][-1], abs=1e-6)


def test_images_must_be_held_out(other: Workbench) -> None:
    with pytest.raises(ValueError, match=r"^validation=0 is impossible here"):
        run(ask, other, RECIPE.but(validation=0), SEED)
