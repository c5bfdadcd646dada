"""Recipes and seeds in, runs out: what is stored is loaded, the rest is trained, here or by workers."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import datetime
import functools
import hashlib
import inspect
import itertools
import json
import pickle
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, as_completed
from types import ModuleType
from typing import IO, Any, Self

import numpy as np
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bn_tutorial import recipe, settings
from bn_tutorial.data import dataset
from bn_tutorial.data.cifar10 import DataError, load_cifar10, source_of
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import batches, lockstep, program, rows, single
from bn_tutorial.engines.lockstep import usual_engine
from bn_tutorial.engines.program import Engine, Workbench, program_key
from bn_tutorial.networks import backend, layers, models, statistics
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import executors
from bn_tutorial.training.executors import WorkerError
from bn_tutorial.training.runs import FORMAT, Run, Runs, RunStore

#: The modules whose code decides what a run's numbers are.
_PASSED_THROUGH = (
    *(backend, dataset, batches, layers, models, program, recipe, rows, single),
    statistics,
)


#: How many seeds are trained together at most, as they are stored, or lost, together.
MOST = 16

#: Where progress goes; None means ``sys.stderr``.
REPORT_TO: IO[str] | None = None


def train(
    recipes: Recipe | Iterable[Recipe],
    data: Dataset,
    seeds: Iterable[int] = (0,),
    *,
    store: RunStore | None = None,
    engine: Engine | None = None,
    executor: Executor | None = None,
) -> Runs:
    """Train every recipe with every seed; what is stored already is not trained again.

    Each finished run is stored at once, so that whatever interrupts the rest loses nothing.
    A run that diverges is recorded as such, and the others go on. Seeds that
    `bn_tutorial.engines.lockstep` trains together, at most 16, finish together.

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
    engine : callable or None
        What trains a network. None means `usual_engine` of each recipe.
    executor : concurrent.futures.Executor or None
        Whose workers train, each of them one run at a time; for instance what
        `bn_tutorial.training.executors` opens. None means the Dask cluster that ``BN_TUTORIAL_DASK``
        names, and without that variable this process.

    Returns
    -------
    Runs
        One run for each recipe and seed, recipes first.

    Raises
    ------
    ValueError
        If a recipe does not fit the data, or there is no recipe or no seed. Nothing has
        been trained then.
    WorkerError
        If the workers cannot be reached, would not train as this process does, lack the images,
        or die, or if the connection to them is lost. Finished runs are kept.
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
    tasks = [_Task(*pair, keys[pair], engine or usual_engine(pair[0]), store) for pair in missing]
    if tasks:
        given = contextlib.nullcontext(executor) if executor else executors.from_environment()
        with given as workers, _Report(tasks) as report:
            if workers:
                trained = _train_there(workers, tasks, data, report)
            else:
                trained = _train_here(tasks, data, report)
        runs |= {(run.recipe, run.seed): run for run in trained}
    return Runs(runs[pair] for pair in keys)


@dataclasses.dataclass(frozen=True)
class _Task:
    """A run to be trained, and where it is kept."""

    recipe: Recipe
    seed: int
    key: str
    engine: Engine
    store: RunStore

    def keep(self, run: Run, unstored: Callable[[settings.StorageError], object]) -> None:
        try:
            self.store.put(self.key, run)
        except settings.StorageError as error:
            unstored(error)


def _train(
    tasks: list[_Task],
    bench: Workbench,
    on_epoch: Callable[[], object] = lambda: None,
    unstored: Callable[[settings.StorageError], object] = lambda error: None,
) -> list[Run]:
    """Train and store runs that go together; for what another process is training, wait."""
    with contextlib.ExitStack() as alone:
        for task in tasks:
            alone.enter_context(_alone(task.store, task.key))
        runs = {task.key: run for task in tasks if (run := task.store.get(task.key))}
        missing = [task for task in tasks if task.key not in runs]
        if missing:
            one, seeds = missing[0], [task.seed for task in missing]
            started = time.perf_counter()
            if len(seeds) > 1:
                pairs = lockstep.fit_together(bench, one.recipe, seeds)
                histories = [*rows.collect_each(_counted(pairs, on_epoch), seeds).values()]
            else:
                found = one.engine(bench, one.recipe, one.seed)
                histories = [rows.collect(_counted(found, on_epoch))]
            seconds = (time.perf_counter() - started) / len(seeds)
            for task, history in zip(missing, histories, strict=True):
                made = _provenance(bench.data, task.engine, seconds)
                runs[task.key] = Run(task.recipe, task.seed, history, made)
                task.keep(runs[task.key], unstored)
        return [runs[task.key] for task in tasks]


def _train_here(tasks: list[_Task], data: Dataset, report: _Report) -> list[Run]:
    def together(task: _Task) -> tuple[Recipe, int | None]:
        return task.recipe, None if task.engine is lockstep.fit else task.seed

    runs = []
    with Workbench(data) as bench:
        for _, group in itertools.groupby(tasks, together):
            company = list(group)
            for start in range(0, len(company), MOST):
                part = company[start : start + MOST]
                report.begin(part)
                for run in _train(part, bench, report.epoch, report.unstored):
                    report.end(run)
                    runs.append(run)
    return runs


def _counted(rows: Iterable[Any], on_epoch: Callable[[], object]) -> Iterator[Any]:
    """Pass rows on, and count them."""
    for row in rows:
        yield row
        on_epoch()


def _train_there(
    executor: Executor, tasks: list[_Task], data: Dataset, report: _Report
) -> list[Run]:
    """Let workers train; cancel what has not begun at an error (at Ctrl-C, the executor's owner does).

    A worker stores its run itself, as it may outlive this process. If it cannot, or its folder
    of that name is another one, the run is stored here.
    """
    settings = {used: _setting(used) for used in {task.engine for task in tasks}}
    for used, setting in settings.items():
        if setting["engine"].startswith("__main__.") or used.__qualname__ != used.__name__:  # type: ignore[attr-defined]
            raise ValueError("workers cannot import this engine: make it a function of a module.")
    # packed here, so that a worker without one of these classes can say so
    images = pickle.dumps(source_of(data) or data)
    runs, futures = [], {}
    _IMAGES[data.digest] = data  # for workers that are threads
    try:
        for task in tasks:
            packed = pickle.dumps((settings[task.engine], task))
            futures[executor.submit(_work, packed, images, data.digest)] = task
        for future in as_completed(futures):
            task, run = futures[future], future.result()
            if not task.store.path(task.key).exists():
                task.keep(run, report.unstored)
            report.epoch(run.recipe.epochs)  # workers do not tell of each
            report.end(run)
            runs.append(run)
    except BrokenExecutor as error:
        raise WorkerError(
            "a worker process died (was it killed, is memory short, or does the script that "
            'starts workers lack if __name__ == "__main__"?): what is finished is kept, so run '
            "again, if need be with fewer workers."
        ) from error
    except CancelledError as error:
        raise WorkerError(
            "the connection to the workers was lost: what is finished is kept, so run again when "
            "they can be reached."
        ) from error
    except Exception:
        for future in futures:
            future.cancel()
        raise
    finally:
        _IMAGES.pop(data.digest, None)
    return runs


#: A worker's threads share compiled programs and their variables, so they take turns.
_ONE_AT_A_TIME = threading.Lock()

#: The images on which a worker has trained last, by digest, and what it keeps for them.
_IMAGES: dict[str, Dataset] = {}
_BENCHES: dict[str, Workbench] = {}


def _work(packed: bytes, images: bytes, digest: str) -> Run:
    """Do, in a worker, what the client would have done; `images` are, or name, those of `digest`."""
    same = "install the same versions there and here."
    with _ONE_AT_A_TIME:
        try:
            setting, task = pickle.loads(packed)
        except (ImportError, AttributeError) as error:
            raise WorkerError(f"a worker lacks what a run needs ({error}): {same}") from error
        found = _differences(setting, _setting(task.engine))
        if found:
            raise WorkerError(
                f"a worker would not train as this process does ({', '.join(found)}): {same}"
            )
        if digest not in _IMAGES:
            try:
                given = pickle.loads(images)
                loaded = load_cifar10(given) if isinstance(given, str) else given
            except DataError as error:
                raise WorkerError(
                    f"a worker has no images ({str(error).rstrip('.')}): run “bn-tutorial data” "
                    "on its machine."
                ) from error
            _IMAGES.clear()
            _IMAGES[digest] = loaded
        if digest not in _BENCHES:
            for bench in _BENCHES.values():
                bench.close()
            _BENCHES.clear()
            _BENCHES[digest] = Workbench(_IMAGES[digest])
        (run,) = _train([task], _BENCHES[digest])
        return run


def run_key(recipe: Recipe, data: Dataset, seed: int, engine: Engine | None = None) -> str:
    """Return the name under which a run is stored: a digest of all that it depends on.

    That is the recipe, the seed, the data's contents, the code that training passes through
    (comments and docstrings aside), the engine, the versions of Keras, TensorFlow and NumPy,
    and the kind of device. Without an engine it is the key for `usual_engine`.
    """
    setting = _setting(engine or usual_engine(recipe))
    parts = [
        FORMAT,
        recipe.digest,
        seed,
        data.digest,
        setting["device"],
        setting["versions"],
        *setting["code"].values(),
        setting["engine"],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _setting(engine: Engine) -> dict[str, Any]:
    """Return what a run depends on besides recipe, seed and data."""
    modules = {module.__name__: module for module in _PASSED_THROUGH}
    return {
        "device": backend.device(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "versions": backend.versions(),
        "code": {
            **{name: _code_digest(module) for name, module in modules.items()},
            "the engine": _code_digest(inspect.getmodule(engine)),
        },
        "engine": _engine_name(engine),
    }


def _differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Say in what the settings of a client and of its worker differ."""
    mine, its = (
        {
            "the device": one["device"],
            "the engine": one["engine"],
            "python": one["python"],
            **one["versions"],
        }
        for one in (here, there)
    )
    found = [
        f"{name} is {its.get(name)} there and {value} here"
        for name, value in mine.items()
        if value != its.get(name)
    ]
    return found or [  # each Python digests the same code in its own way
        f"the code of {name} differs"
        for name, digest in here["code"].items()
        if digest != there["code"].get(name)
    ]


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
    compiled, _ = program_key(one)
    return (one.model, compiled.digest, one.batch_size, one.train_size or 0, one.digest, seed)


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
        with contextlib.suppress(settings.StorageError):
            stack.enter_context(settings.lock(store.path(key)))
        yield


class _Report:
    """Progress: bars on a terminal, else a line for each run, both on stderr."""

    def __init__(self, tasks: list[_Task]) -> None:
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
            disable=not self.console.is_terminal,
        )
        self.count, self.done = len(tasks), 0
        epochs = sum(task.recipe.epochs for task in tasks)
        self.overall = self.bars.add_task(f"all {self.count} runs", total=epochs)
        self.current: TaskID | None = None

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bars.stop()
        if kind is KeyboardInterrupt:
            self.say(f"Interrupted: {self.done} of {self.count} runs are finished and kept.")

    def begin(self, tasks: list[_Task]) -> None:
        one, seeds = tasks[0].recipe, ", ".join(str(task.seed) for task in tasks)
        label = f"{one.label}, seed{'s' if len(tasks) > 1 else ''} {seeds}"
        if self.current is not None:
            self.bars.remove_task(self.current)
        self.current = self.bars.add_task(label, total=len(tasks) * one.epochs)

    def epoch(self, count: int = 1) -> None:
        for bar in (self.current, self.overall):
            if bar is not None:
                self.bars.advance(bar, count)

    def end(self, run: Run) -> None:
        self.done += 1
        images = "validation" if run.recipe.validation else "test"
        right = f"{run.history['val_accuracy'][-1]:.1%} of the {images} images right"
        outcome = "diverged" if run.diverged else right
        self.say(
            f"[{self.done}/{self.count}] {run.recipe.label}, seed {run.seed}: "
            f"{outcome}, {run.provenance['seconds']:.0f} s"
        )

    def unstored(self, error: settings.StorageError) -> None:
        self.say(f"This run is not stored: {error}")

    def say(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(line, markup=False)
        else:
            print(line, file=self.file)
