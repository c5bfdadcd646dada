"""Small networks that are no longer as they were at the start, and images for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from bn_tutorial.networks.models import build
from bn_tutorial.recipe import Recipe

SHAPE = (4, 4, 3)
IMAGES = np.random.default_rng(0).random((100, *SHAPE)).astype(np.float32)


def flat(count: int) -> Any:
    return IMAGES[:count].reshape(count, -1).astype(np.float64)


def trained(recipe: Recipe) -> Any:
    """Return a network whose weights and moving statistics are no longer those of the start."""
    model = build(recipe, 1, shape=SHAPE, classes=3)
    random = np.random.default_rng(2)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))
    return model


def snapshot(model: Any) -> list[Any]:
    return [variable.numpy().copy() for variable in model.variables]
