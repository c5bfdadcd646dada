from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bn_tutorial.bench.agreement import TOLERANCE, differences, first_loss, first_losses
from bn_tutorial.data import load_cifar10
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe
from tests.keras_jax import RECIPES


def test_the_first_epoch_is_the_same_however_it_is_computed(tiny: Dataset) -> None:
    losses = first_losses(Recipe(width=8, norm="batch"), tiny)
    assert len(losses) == 5
    assert max(differences(losses).values()) < TOLERANCE


def test_differences_are_relative_to_the_first() -> None:
    assert differences({"one": 2.0, "other": 1.5}) == {"one": 0, "other": 0.25}


@pytest.mark.parametrize("name", RECIPES)
def test_keras_on_jax_agrees(name: str, tmp_path: Path) -> None:
    recipe, data = RECIPES[name], load_cifar10("sample")
    order = epoch_order(0, 0, len(data.y_train))
    bench = Workbench(data)
    pixel_mean, pixel_std = bench.pixel_statistics(recipe, 0)
    np.savez(
        tmp_path / "given.npz",
        *build(recipe, 0).get_weights(),
        images=(data.x_train[order].astype("float32") - pixel_mean) / pixel_std,
        labels=data.y_train[order],
    )
    answer = subprocess.run(
        [sys.executable, "-m", "tests.keras_jax", name, tmp_path / "given.npz"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    found = json.loads(answer.stdout)
    assert found.pop("backend") == "jax"
    apart = differences({"here": first_loss(bench, recipe), **found})
    assert apart["from logits"] < TOLERANCE
    # the plain network's probabilities are partly so small that Keras on JAX clips them
    assert (apart["from probabilities"] < TOLERANCE) == (name == "normalised")
