"""A bench on which tests share what they compile."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np

from bn_tutorial.engines import single
from bn_tutorial.engines.rows import History, collect
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe import Recipe

#: Accuracies by part of the test images, of which there are too few for more than one.
PARTS = ("val_accuracy/0", "val_accuracy_population/0")

T = TypeVar("T")


class Roomy(Workbench):
    """A bench that keeps everything."""

    def keep(self, shelf: object, key: Hashable, make: Callable[[], T], most: int = 1) -> T:
        return super().keep(shelf, key, make, most=10**6)


def run(engine: Any, bench: Workbench, recipe: Recipe, seed: int = 0, **options: Any) -> History:
    """Return the history of a run."""
    return collect(engine(bench, recipe, seed, **options))


def fit(bench: Workbench, recipe: Recipe, seed: int = 0, **options: Any) -> History:
    """Return the history of a run of the usual engine."""
    return run(single.fit, bench, recipe, seed, **options)


def at_end(history: History, name: str) -> float:
    """Return the last of what was measured, a mean over parts of the images if there are parts."""
    parts = [values[-1] for key, values in history.items() if f"{key}/".startswith(f"{name}/")]
    return float(np.mean(parts))
