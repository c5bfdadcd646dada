"""Batch normalisation, learnt from experiments.

A `Recipe` is trained into `Runs`; runs become figures and evidence. Names are loaded
when they are first used, so that importing the package starts neither Keras nor TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bn_tutorial.data import DataError, load_cifar10
    from bn_tutorial.dataset import Dataset
    from bn_tutorial.models import build
    from bn_tutorial.profiles import Profile, profile
    from bn_tutorial.recipe import Recipe
    from bn_tutorial.runs import Run, Runs, RunStore
    from bn_tutorial.training import train

__version__ = "0.1.0"

_HOME = {
    "DataError": "data",
    "Dataset": "dataset",
    "load_cifar10": "data",
    "build": "models",
    "Profile": "profiles",
    "profile": "profiles",
    "Recipe": "recipe",
    "Run": "runs",
    "RunStore": "runs",
    "Runs": "runs",
    "train": "training",
}

__all__ = [
    "DataError",
    "Dataset",
    "Profile",
    "Recipe",
    "Run",
    "RunStore",
    "Runs",
    "build",
    "load_cifar10",
    "profile",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
