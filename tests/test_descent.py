"""Gradient descent by hand, held against Keras's."""

from __future__ import annotations

import numpy as np
import pytest

from bn_tutorial.networks.backend import keras
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from bn_tutorial.scratch.descent import descend

NETWORK = Recipe(width=6, depth=2, norm="batch")
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(12, 4, 4, 3)).astype("float32")
LABELS = RANDOM.integers(10, size=12)
BATCHES = RANDOM.integers(12, size=(3, 8))


def network(recipe: Recipe = NETWORK) -> keras.Model:
    return build(recipe, 1, shape=(4, 4, 3))


def test_it_takes_the_steps_of_keras() -> None:
    mine, theirs = network(), network()
    found = descend(mine, IMAGES, LABELS, BATCHES, 0.1)
    theirs.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    losses = [theirs.train_on_batch(IMAGES[batch], LABELS[batch]) for batch in BATCHES]
    for one, other in zip(mine.trainable_variables, theirs.trainable_variables, strict=True):
        assert one.numpy() == pytest.approx(other.numpy(), abs=1e-5)
    assert found.losses[0] == pytest.approx(losses[0], rel=1e-5)
    assert found.losses.shape == found.gradient_norms.shape == (3,)


def test_hidden_kernels_may_have_a_rate_of_their_own() -> None:
    model, still = network(), network()
    found = descend(model, IMAGES, LABELS, BATCHES, 0.1, hidden=0.0)
    for one, other in zip(model.trainable_variables, still.trainable_variables, strict=True):
        hidden = one.name == "kernel" and one.shape[-1] == 6
        assert np.array_equal(one.numpy(), other.numpy()) == hidden
    assert len(set(found.norms)) == 1


def test_norms_are_those_of_the_first_kernel_before_each_step_and_after_the_last() -> None:
    model = network()
    start = np.linalg.norm(model.trainable_variables[0].numpy())
    found = descend(model, IMAGES, LABELS, BATCHES, 0.1)
    end = np.linalg.norm(model.trainable_variables[0].numpy())
    assert found.norms[[0, -1]] == pytest.approx([start, end], rel=1e-6)
    assert found.norms.shape == (4,)


def test_before_a_normaliser_a_kernel_grows_by_pythagoras() -> None:
    model = network(NETWORK.but(norm_options={"epsilon": 1e-7}))
    found = descend(model, IMAGES, LABELS, BATCHES, 0.1)
    grown = found.norms[1:] ** 2 - found.norms[:-1] ** 2
    assert grown == pytest.approx(0.1**2 * found.gradient_norms**2, rel=1e-2)
