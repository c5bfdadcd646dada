"""Engines for `train` that compute nothing: for tests, and for the processes they start."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

import bn_tutorial
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.recipe import Recipe

if TYPE_CHECKING:
    from bn_tutorial.engines.rows import Row
    from bn_tutorial.engines.workbench import Workbench

#: The recipe's label and the seed of each run that `counted` was asked for.
calls: list[tuple[str, int]] = []

#: What the processes below train.
RECIPES = (Recipe(epochs=2), Recipe(epochs=2, norm="batch"))
SEEDS = (0, 1, 2)


def history(recipe: Recipe, seed: int) -> dict[str, list[float]]:
    """Return a history that follows from recipe and seed alone; width 666 diverges."""
    draws = np.random.default_rng([int(recipe.digest, 16), seed]).random((2, recipe.epochs))
    if recipe.width == 666:
        draws[0, -1] = math.nan
    losses, accuracies = draws.tolist()
    return {
        "loss": losses,
        "accuracy": accuracies,
        "val_loss": losses,
        "val_accuracy": accuracies,
    }


def rows(recipe: Recipe, seed: int) -> Iterator[Row]:
    """Yield that history, row by row."""
    found = history(recipe, seed)
    for values in zip(*found.values(), strict=True):
        yield dict(zip(found, values, strict=True))


def counted(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    calls.append((recipe.label, seed))
    yield from rows(recipe, seed)


def stopped(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Behave as somebody who presses Ctrl-C while the third run trains."""
    if len(calls) == 2:
        raise KeyboardInterrupt
    yield from counted(bench, recipe, seed)


def failing(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Have a bug that shows in the third run."""
    if len(calls) == 2:
        raise ZeroDivisionError
    yield from counted(bench, recipe, seed)


def missing(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    if seed >= 0:
        raise FileNotFoundError("no such thing")
    yield {}


def logged(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Note each run in a file, and take a while; wait for ever if there is a file "wait"."""
    log = Path(os.environ["ENGINE_LOG"])
    with log.open("a") as file:
        file.write(f"{recipe.norm} {seed}\n")
    if log.with_name("wait").exists() and len(log.read_text().splitlines()) == 3:
        print("in the third run", flush=True)
        signal.pause()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**5)
    yield from rows(recipe, seed)


def stalled(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Note each run and its process in a file; wait while there is a file "wait", or "wait 3"."""
    log = Path(os.environ["ENGINE_LOG"])
    with log.open("a") as file:
        file.write(f"{recipe.norm} {seed} {os.getpid()}\n")
    while log.with_name("wait").exists() or log.with_name(f"wait {seed}").exists():
        time.sleep(0.01)
    yield from rows(recipe, seed)


def deadly(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """End the process in the third run, for as long as there is a file "deadly"."""
    log = Path(os.environ["ENGINE_LOG"])
    with log.open("a") as file:
        file.write(f"{recipe.norm} {seed}\n")
    if log.with_name("deadly").exists() and len(log.read_text().splitlines()) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    yield from rows(recipe, seed)


def deadlier(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """End the process, for as long as there is a file "deadly"."""
    if Path(os.environ["ENGINE_LOG"]).with_name("deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    yield from rows(recipe, seed)


def shortened(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Train for two epochs, whatever the recipe says."""
    yield from rows(recipe.but(epochs=2), seed)


def unwell(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[Row]:
    """Fail for as long as there is a file "unwell"."""
    if Path(os.environ["ENGINE_LOG"]).with_name("unwell").exists():
        raise RuntimeError("unwell")
    yield from rows(recipe, seed)


class Stubborn(Exception):
    """An error that cannot be unpickled."""

    def __init__(self, first: int, second: int) -> None:
        super().__init__(first)


def stubborn(number: int) -> None:
    raise Stubborn(number, number)


def busy() -> int:
    """Take a while, and return which process this is."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**5)
    return os.getpid()


def entering(log: str, name: str) -> None:
    """Note a beginning and an end."""
    for way in ("in", "out"):
        with Path(log).open("a") as file:
            file.write(f"{name} {way}\n")
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2 * 10**4)


def waiting(log: str) -> None:
    """Note a beginning, and wait for as long as there is a file "wait"."""
    with Path(log).open("a") as file:
        file.write("here\n")
    while Path(log).with_name("wait").exists():
        time.sleep(0.01)


def main() -> None:
    """Train when told so on standard input; print the runs."""
    engines = importlib.import_module("tests.engines")  # its name in every process
    stand_in_for_backend()
    from bn_tutorial.training.store import RunStore
    from bn_tutorial.training.sweep import train

    print("ready", flush=True)
    sys.stdin.readline()
    runs = train(
        RECIPES, dataset(), SEEDS, store=RunStore(Path(sys.argv[1])), engine=engines.logged
    )
    print(json.dumps([[run.recipe.label, run.seed, run.history] for run in runs]))


def until(condition: Callable[[], object]) -> None:
    """Wait for something that will be, however busy the machine is."""
    for _ in range(30_000):  # or else five minutes are over, and it will never be
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def dataset() -> Dataset:
    """Return the smallest dataset that suits `RECIPES`."""
    images, labels = np.zeros((32, 32, 32, 3), np.uint8), np.arange(32, dtype=np.int32) % 10
    return Dataset(images, labels, images[:10], labels[:10])


class Names:
    """Names within names, as of Keras: what begins with a capital is a class without contents."""

    def __getattr__(self, name: str) -> Any:
        if name == "register_keras_serializable":
            return lambda package: lambda cls: cls
        return type(name, (), {}) if name[0].isupper() else Names()


def stand_in_for_backend() -> None:
    """Let the library be imported without Keras and TensorFlow, which take 10 seconds.

    A process that finds ``tests/stand_in`` in PYTHONPATH does this when it starts.
    """
    name = "bn_tutorial.networks.backend"
    backend: Any = ModuleType(name)
    backend.__file__ = str(Path(bn_tutorial.__file__).parent / "networks" / "backend.py")
    backend.GPUS = []
    backend.tf = None
    backend.keras = Names()
    backend.device = lambda: "cpu"
    backend.usual = contextlib.nullcontext
    backend.versions = lambda: {
        name: metadata.version(name) for name in ("keras", "tensorflow", "numpy")
    }
    sys.modules[name] = backend


if __name__ == "__main__":
    main()
