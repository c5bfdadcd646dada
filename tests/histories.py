"""Runs that nobody trained: made-up histories for what reads runs."""

from __future__ import annotations

from typing import Any

import numpy as np

from bn_tutorial.recipe import Recipe
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run, Runs

MADE: Any = {
    "data": {"digest": "abc", "source": "made up", "sample": False},
    "device": "cpu",
    "versions": {"keras": "3"},
    "created": "2026-01-02T03:04:05+00:00",
    "engine": "tests.made_up",
    "seconds": 1.5,
}


def made_up(recipe: Recipe, seed: Any = 0, *, sample: Any = False, **metrics: Any) -> Run:
    """Return a run with plausible metrics; those given take the place of its own."""
    random = np.random.default_rng([seed, int(recipe.digest, 16)])
    falling = np.geomspace(2, 0.2, recipe.epochs) * random.uniform(0.9, 1.1, recipe.epochs)
    history = {}
    for name in ("", "val_", "fit_"):
        history[f"{name}loss"] = falling * random.uniform(0.9, 1.1)
        history[f"{name}accuracy"] = (1 - history[f"{name}loss"] / 3).clip(0, 1)
    for name in ("loss", "accuracy"):
        history[f"val_{name}_population"] = history[f"val_{name}"] * random.uniform(0.8, 1.2)
        for read in (name, f"{name}_population"):
            history[f"test_{read}"] = history[f"val_{read}"][-1:] * random.uniform(0.95, 1.05)
    listed = {name: np.asarray(values, float).tolist() for name, values in history.items()}
    data = {**MADE["data"], "sample": sample}
    return Run(recipe, seed, listed | metrics, made_with(data=data))


def made_with(**changes: Any) -> Any:
    """Return what a made-up run was made with."""
    return Provenance(**(MADE | changes))


def several(*recipes: Recipe, seeds: int = 3, **more: Any) -> Runs:
    """Return made-up runs of recipes with seeds from 0."""
    return Runs(made_up(recipe, seed, **more) for recipe in recipes for seed in range(seeds))
