"""Recipes and seeds in, runs out: what is stored is loaded, the rest is trained."""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import IO, Protocol, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bn_tutorial import backend, dataset, engine, layers, models, probes, recipe, storage
from bn_tutorial.dataset import Dataset
from bn_tutorial.engine import signature
from bn_tutorial.recipe import Recipe
from bn_tutorial.runs import FORMAT, Run, Runs, RunStore

#: The modules whose code decides what a run's numbers are.
_PASSED_THROUGH = (backend, dataset, engine, layers, models, probes, recipe)


#: Where progress goes; None means ``sys.stderr``.
REPORT_TO: IO[str] | None = None


class Engine(Protocol):
    """What trains one network: `bn_tutorial.engine.fit`, or a function that can replace it."""

    def __call__(
        self, recipe: Recipe, data: Dataset, seed: int, on_epoch: Callable[[], object]
    ) -> engine.History:
        """Train one network and return its history."""


def train(
    recipes: Recipe | Iterable[Recipe],
    data: Dataset,
    seeds: Iterable[int] = (0,),
    *,
    store: RunStore | None = None,
    engine: Engine = engine.fit,
) -> Runs:
    """Train every recipe with every seed; what is stored already is not trained again.

    Each finished run is stored at once, so that whatever interrupts the rest loses nothing.
    A run that diverges is recorded as such, and the others go on.

    Parameters
    ----------
    recipes : Recipe or iterable of Recipe
        What to train. Equal recipes are trained once.
    data : Dataset
        On which images.
    seeds : iterable of int
        With which seeds; they are shared by all recipes, so that differences are paired.
    store : RunStore or None
        Where runs are kept; None means the storage folder.
    engine : callable
        What trains a network.

    Returns
    -------
    Runs
        One run for each recipe and seed, recipes first.

    Raises
    ------
    ValueError
        If a recipe does not fit the data, or there is no recipe or no seed. Nothing has
        been trained then.
    """
    wanted = dict.fromkeys([recipes] if isinstance(recipes, Recipe) else recipes)
    seeds = list(seeds)
    if not wanted or not seeds:
        raise ValueError("there is nothing to train: give at least one recipe and one seed.")
    if not all(map(_is_seed, seeds)):
        raise ValueError(f"seeds={seeds} are impossible: they must be whole numbers from 0.")
    seeds = sorted({int(seed) for seed in seeds})
    for one in wanted:
        check_fits(one, data)
    store = store or RunStore()
    keys = {(one, seed): run_key(one, data, seed, engine) for one in wanted for seed in seeds}
    runs = {pair: run for pair, key in keys.items() if (run := store.get(key))}
    missing = sorted((pair for pair in keys if pair not in runs), key=_compiled_together)
    with _Report(missing) as report:
        for one, seed in missing:
            with _alone(store, keys[one, seed]):
                run = store.get(keys[one, seed])  # another process may have been faster
                if run is None:
                    report.begin(one, seed)
                    started = time.perf_counter()
                    history = engine(one, data, seed, report.epoch)
                    seconds = time.perf_counter() - started
                    run = Run(one, seed, history, _provenance(data, engine, seconds))
                    try:
                        store.put(keys[one, seed], run)
                    except storage.StorageError as error:
                        report.say(f"This run is not stored: {error}")
                report.end(run)
            runs[one, seed] = run
    return Runs(runs[pair] for pair in keys)


def run_key(recipe: Recipe, data: Dataset, seed: int, engine: Engine = engine.fit) -> str:
    """Return the name under which a run is stored: a digest of all that it depends on.

    That is the recipe, the seed, the data's contents, the code that training passes through
    (comments and docstrings aside), the versions of Keras, TensorFlow and NumPy, and the
    kind of device.
    """
    parts = [
        FORMAT,
        recipe.digest,
        seed,
        data.digest,
        backend.device(),
        backend.versions(),
        *map(_code_digest, (*_PASSED_THROUGH, inspect.getmodule(engine))),
        _engine_name(engine),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@functools.cache  # of the code as it was imported, whatever becomes of the file
def _code_digest(module: ModuleType | None) -> str:
    if module is None or not getattr(module, "__file__", None):
        raise ValueError("an engine must be defined in a module, so that its code can be stored.")
    tree = ast.parse(inspect.getsource(module))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first_is_docstring = ast.get_docstring(node) is not None
            node.body = node.body[first_is_docstring:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _engine_name(engine: Engine) -> str:
    return f"{inspect.getmodule(engine).__name__}.{engine.__name__}"  # type: ignore[union-attr,attr-defined]


def _provenance(data: Dataset, engine: Engine, seconds: float) -> dict[str, object]:
    return {
        "data": {"digest": data.digest, "source": data.source, "sample": data.is_sample},
        "device": backend.device(),
        "versions": backend.versions(),
        "engine": _engine_name(engine),
        "seconds": round(seconds, 2),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _compiled_together(pair: tuple[Recipe, int]) -> tuple[object, ...]:
    """Sort what shares a compiled program, and then what shares the images, side by side."""
    one, seed = pair
    program, _ = signature(one)
    return (one.model, program.digest, one.batch_size, one.train_size or 0, one.digest, seed)


def _is_seed(value: object) -> bool:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return whole and int(value) >= 0  # type: ignore[call-overload]


def check_fits(recipe: Recipe, data: Dataset) -> None:
    """Check that a recipe can be trained on the data.

    Raises
    ------
    ValueError
        If it asks for more images than there are.
    """
    count = len(data.x_train) - recipe.validation
    if count < 1:
        raise ValueError(
            f"validation={recipe.validation} is impossible: there are {len(data.x_train)} "
            "training images."
        )
    rest = " beside the validation images" if recipe.validation else ""
    if recipe.train_size is not None and recipe.train_size > count:
        raise ValueError(
            f"train_size={recipe.train_size} is impossible: there are {count} training images{rest}."
        )
    if recipe.batch_size > count:
        raise ValueError(
            f"batch_size={recipe.batch_size} is impossible: there are {count} training images{rest}."
        )


@contextlib.contextmanager
def _alone(store: RunStore, key: str) -> Iterator[None]:
    """Let one process at a time train this run; go on without if the store is unwritable."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(storage.StorageError):
            stack.enter_context(storage.lock(store.path(key)))
        yield


class _Report:
    """Progress: bars on a terminal, else a line for each run, both on stderr."""

    def __init__(self, missing: list[tuple[Recipe, int]]) -> None:
        self.file = REPORT_TO or sys.stderr
        self.console = Console(file=self.file, soft_wrap=True, highlight=False)
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not missing or not self.console.is_terminal,
        )
        self.count, self.done = len(missing), 0
        epochs = sum(one.epochs for one, _ in missing)
        self.overall = self.bars.add_task(f"all {self.count} runs", total=epochs)
        self.current = self.overall

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()
        if kind is KeyboardInterrupt:
            self.say(f"Interrupted: {self.done} of {self.count} runs are finished and kept.")

    def begin(self, recipe: Recipe, seed: int) -> None:
        self.current = self.bars.add_task(f"{recipe.label}, seed {seed}", total=recipe.epochs)

    def epoch(self) -> None:
        self.bars.advance(self.current)
        self.bars.advance(self.overall)

    def end(self, run: Run) -> None:
        self.done += 1
        if self.current != self.overall:
            self.bars.remove_task(self.current)
            self.current = self.overall
        images = "validation" if run.recipe.validation else "test"
        right = f"{run.history['val_accuracy'][-1]:.1%} of the {images} images right"
        outcome = "diverged" if run.diverged else right
        self.say(
            f"[{self.done}/{self.count}] {run.recipe.label}, seed {run.seed}: "
            f"{outcome}, {run.provenance['seconds']:.0f} s"
        )

    def say(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:
            print(line, file=self.file)
