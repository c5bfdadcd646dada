from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from bn_tutorial import agreement
from bn_tutorial.agreement import TOLERANCE, differences, first_losses
from bn_tutorial.data import load_cifar10
from bn_tutorial.dataset import Dataset
from bn_tutorial.engine import epoch_order, scaling
from bn_tutorial.models import build
from bn_tutorial.recipe import Recipe
from tests.keras_jax import RECIPE


def test_the_first_epoch_is_the_same_however_it_is_computed(tiny: Dataset) -> None:
    losses = first_losses(Recipe(width=8, norm="batch"), tiny)
    assert len(losses) == 5
    assert max(differences(losses).values()) < TOLERANCE


def test_differences_are_relative_to_the_first() -> None:
    assert differences({"one": 2.0, "other": 1.5}) == {"one": 0, "other": 0.25}


def test_keras_on_jax_agrees_from_logits(tmp_path: Path) -> None:
    data = load_cifar10("sample")
    order = epoch_order(0, 0, len(data.y_train))
    shift, scale = scaling(RECIPE, data)
    np.savez(
        tmp_path / "given.npz",
        *build(RECIPE, 0).get_weights(),
        images=(data.x_train[order].astype("float32") - shift) / scale,
        labels=data.y_train[order],
    )
    answer = subprocess.run(
        [sys.executable, "-m", "tests.keras_jax", tmp_path / "given.npz"],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    found = json.loads(answer.stdout)
    assert found.pop("backend") == "jax"
    ours = agreement._first_loss(RECIPE, data, 0)
    apart = differences({"ours": ours, **found})
    assert apart["logits"] < TOLERANCE
    assert apart["probabilities"] > TOLERANCE  # so the page has to say which
