"""Recipes and seeds in, runs out: what is stored is loaded, the rest is trained."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    wait,
)

import numpy as np

from bn_tutorial.data.cifar10 import source_of
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep
from bn_tutorial.engines.lockstep import usual_engine
from bn_tutorial.engines.program import program_key
from bn_tutorial.engines.workbench import Engine, Workbench
from bn_tutorial.networks import backend
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training import executors, fetched, images, pool, schedule, worker
from bn_tutorial.training.executors import NoWorkers, WorkerError
from bn_tutorial.training.interrupt import ctrl_c
from bn_tutorial.training.keys import run_key
from bn_tutorial.training.progress import Bar, Report
from bn_tutorial.training.runs import Run, Runs
from bn_tutorial.training.schedule import Task, Wanted
from bn_tutorial.training.store import RunStore

#: Seeds trained in one program; an interruption loses all of them.
MAX_SEEDS_TOGETHER = 16

#: Seconds of training from which on it is worth to start worker processes, which takes ten of each.
WORTH_WORKERS = 20

#: Seconds between two looks at whether somebody pressed Ctrl-C.
LOOK = 0.2


def train(
    recipes: Recipe | Iterable[Recipe] | Mapping[Recipe, Iterable[int]],
    data: Dataset,
    seeds: Iterable[int] = (0,),
    *,
    store: RunStore | None = None,
    engine: Engine | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Runs:
    """Train every recipe with every seed; what is stored or was fetched is not trained again.

    Each run is computed by one core, and a worker process for each core trains one at a time. What
    is returned does not depend on how many there are, to the last bit. Each finished run is stored
    at once, so that whatever interrupts the rest loses nothing. A run that diverges is recorded as
    such, and the others go on. On a GPU this process trains, and seeds that
    `bn_tutorial.engines.lockstep` trains together, at most 16, finish together.

    Parameters
    ----------
    recipes : Recipe or iterable of Recipe, or mapping of Recipe to iterable of int
        What to train. Equal recipes are trained once. A mapping says with which seeds each.
    data : Dataset
        On which images.
    seeds : iterable of int
        With which seeds, if a mapping does not say; they are shared by all recipes, so that
        differences are paired.
    store : RunStore or None
        Where runs are kept; None means the storage folder.
    engine : callable or None
        What trains a network. None means `bn_tutorial.engines.lockstep.usual_engine` of each
        recipe.
    workers : int or None
        How many processes train at once; 1 is this process. None means what
        ``BN_TUTORIAL_WORKERS`` says, and without that variable one for each core, if there is enough
        to do and memory for them.
    executor : concurrent.futures.Executor or None
        Whose workers train instead, each of them one run at a time; for instance what
        `bn_tutorial.training.executors.dask` opens. Without one, and if nobody says how many workers,
        it is the Dask cluster that ``BN_TUTORIAL_DASK`` names, if it names one.

    Returns
    -------
    Runs
        One run for each recipe and seed, recipes first.

    Raises
    ------
    ValueError
        If a recipe does not fit the data, if there is no recipe or no seed, or if there are no
        workers or two kinds of them. Nothing has been trained then.
    WorkerError
        If the workers cannot be reached, would not train as this process does, lack the images,
        or die, or if the connection to them is lost. Finished runs are kept.
    """
    wanted = _seeds_of(recipes, seeds)
    if workers is not None and (executor or workers < 1):
        raise ValueError(f"workers={workers} is impossible: from 1, and without an executor.")
    for one in wanted:
        check_fits(one, data)
    store = store or RunStore()
    engines = {one: engine or usual_engine(one) for one in wanted}
    keys = {
        (one, seed): run_key(one, data, seed, engines[one])
        for one in wanted
        for seed in wanted[one]
    }
    runs = fetched.known(keys, data, store, engines, usual=engine is None)
    missing = sorted((pair for pair in keys if pair not in runs), key=_by_program)
    tasks = [Task(*pair, keys[pair], engines[pair[0]], store) for pair in missing]
    if tasks:
        trained = _train(tasks, data, workers, executor)
        runs |= {(run.recipe, run.seed): run for run in trained}
    return Runs(runs[pair] for pair in keys)


def _seeds_of(
    recipes: Recipe | Iterable[Recipe] | Mapping[Recipe, Iterable[int]], seeds: Iterable[int]
) -> dict[Recipe, list[int]]:
    """Return with which seeds each recipe is to be trained."""
    if not isinstance(recipes, Mapping):
        one_by_one = [recipes] if isinstance(recipes, Recipe) else recipes
        recipes = dict.fromkeys(one_by_one, tuple(seeds))
    wanted = {one: [*own] for one, own in recipes.items()}
    if not wanted or not all(wanted.values()):
        raise ValueError("there is nothing to train: give at least one recipe and one seed.")
    for own in wanted.values():
        if not all(map(_is_seed, own)):
            raise ValueError(f"seeds={own} are impossible: they must be whole numbers from 0.")
    return {one: sorted({int(seed) for seed in own}) for one, own in wanted.items()}


def _train(
    tasks: list[Task], data: Dataset, workers: int | None, executor: Executor | None
) -> list[Run]:
    """Choose who trains, and have it done."""
    count = workers or executors.workers()
    if executor or (count is None and os.environ.get(executors.DASK)):
        with executors.given(executor) as others, Report(tasks) as report:
            return _train_there(others, tasks, data, report)
    with Report(tasks) as report:
        if (count or _usual_workers(tasks, data)) > 1:
            try:
                mine = pool.shared(count or schedule.usual_workers())
                return _train_there(mine, tasks, data, report)
            except NoWorkers as error:
                report.say(f"No worker processes here ({error}), so this process trains.")
        return _train_here(tasks, data, report)


def _usual_workers(tasks: list[Task], data: Dataset) -> int:
    """Return how many workers train if nobody says so."""
    if backend.GPUS or not all(worker.is_importable(task.engine) for task in tasks):
        return 1
    programs = {program_key(task.recipe) for task in tasks}
    training = sum(schedule.seconds(task.recipe, data) for task in tasks)
    seconds = schedule.COMPILING * len(programs) + training
    worth_it = pool.running() or (len(tasks) > 1 and seconds > WORTH_WORKERS)
    return schedule.usual_workers() if worth_it else 1


def _train_here(tasks: list[Task], data: Dataset, report: Report) -> list[Run]:
    def together(task: Task) -> tuple[Recipe, int | None]:
        return task.recipe, None if task.engine is lockstep.fit else task.seed

    runs = []
    with Workbench(data) as bench, ctrl_c(at_once=True) as check:
        for _, group in itertools.groupby(tasks, together):
            many = list(group)
            for start in range(0, len(many), MAX_SEEDS_TOGETHER):
                part = many[start : start + MAX_SEEDS_TOGETHER]
                bar = report.bar(part)

                def tell(epochs: int, show: Callable[[int], object] = bar) -> None:
                    check()
                    show(epochs)

                trained = worker.train_together(part, bench, tell, report.unstored)
                bar.end()
                for run in trained:
                    report.finished(run)
                runs += trained
    return runs


def _train_there(executor: Executor, tasks: list[Task], data: Dataset, report: Report) -> list[Run]:
    """Let workers train; after an error, cancel the runs that have not started.

    A worker stores its run itself, as it may outlive this process. If it cannot, or its folder
    of that name is another one, the run is stored here.
    """
    packed = [worker.pack(task) for task in tasks]
    local = isinstance(executor, pool.Workers)
    where = pickle.dumps(images.lend(data) if local else source_of(data) or data)
    futures: dict[Future[Run], tuple[Task, Bar]] = {}
    runs = []
    try:
        mine = contextlib.nullcontext() if local else worker.lent(data)
        with mine, ctrl_c(at_once=False) as check:
            for task, asked in zip(tasks, packed, strict=True):
                given, bar = (asked, where, data.digest), report.bar([task])
                if isinstance(executor, pool.Workers):
                    future = executor.send(
                        worker.work, *given, tell=bar, wanted=_wanted(task, data)
                    )
                else:
                    future = executor.submit(worker.work, *given)
                futures[future] = task, bar
                check()
            for future in _finished(futures, check):
                (task, bar), run = futures[future], future.result()
                if not task.store.path(task.key).exists():
                    worker.keep(task, run, report.unstored)
                bar.end()
                report.finished(run)
                runs.append(run)
    except BrokenExecutor as error:
        raise WorkerError(
            "a worker process died (was it killed, or is memory short?): what is finished is kept, "
            "so run again, if need be with fewer workers."
        ) from error
    except CancelledError as error:
        raise WorkerError(
            "the connection to the workers was lost: what is finished is kept, so run again when "
            "they can be reached."
        ) from error
    except BaseException as error:
        if isinstance(executor, pool.Workers) and isinstance(error, KeyboardInterrupt):
            executor.abandon(futures)
        for future in futures:
            future.cancel()
        raise
    return runs


def _wanted(task: Task, data: Dataset) -> Wanted:
    one = task.recipe
    program, jit = program_key(one)
    compiled = task.engine.__name__, program.digest, jit, one.batch_size, one.train_size
    return Wanted(schedule.seconds(one, data), compiled, schedule.cores_of(task.engine))


def _finished(futures: Iterable[Future[Run]], check: Callable[[], None]) -> Iterator[Future[Run]]:
    """Yield futures as they are done, and look out for Ctrl-C meanwhile."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, LOOK, FIRST_COMPLETED)
        check()
        yield from done


def _by_program(pair: tuple[Recipe, int]) -> tuple[object, ...]:
    """Sort key: runs of one compiled program, then of one subset, follow each other."""
    one, seed = pair
    program, _ = program_key(one)
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
