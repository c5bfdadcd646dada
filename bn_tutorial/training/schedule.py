"""What is to be trained, about how long it takes, and what an idle worker should begin."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.store import RunStore

if TYPE_CHECKING:
    from bn_tutorial.data.dataset import Dataset
    from bn_tutorial.engines.workbench import Engine

#: Seconds in which a program is compiled, about.
COMPILING = 4

#: Memory that a worker may need, in bytes: of so much there is one worker at most.
WORKER_MEMORY = 1.5e9


@dataclasses.dataclass(frozen=True)
class Task:
    """A run to be trained, and where it is kept."""

    recipe: Recipe
    seed: int
    key: str
    engine: Engine
    store: RunStore


def cores_of(engine: Engine) -> float:
    """Return how many cores an engine takes: usually one, or all (infinity) if it must be alone."""
    return float(getattr(engine, "cores", 1))


def cores() -> int:
    """Return how many cores this process may use, as affinity and control groups allow."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        count = os.cpu_count() or 1
    quota, _, period = _limit("cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        count = min(count, math.ceil(int(quota) / int(period)))
    return max(1, count)


def usual_workers() -> int:
    """Return how many workers train if nobody says so: one for each core, if memory allows."""
    memory = [math.inf]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not on every system
        memory.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if (limit := _limit("memory.max")).isdigit():
        memory.append(int(limit))
    return max(1, int(min(cores(), min(memory) / WORKER_MEMORY)))


def _limit(name: str) -> str:
    """Return what a Linux control group says, or nothing."""
    try:
        return Path("/sys/fs/cgroup", name).read_text("utf-8").strip()
    except OSError:
        return ""


def seconds(recipe: Recipe, data: Dataset) -> float:
    """Estimate how long a run takes on one core, to within a factor of three or so.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    data : Dataset
        On which images.

    Returns
    -------
    float
        Seconds, from the multiply-adds and the memory traffic of the optimiser in each step,
        without compiling.
    """
    products, weights = _size(recipe, data)
    speed = {"mlp": 5e10, "cnn": 5e10, "gru": 1.5e10}[recipe.model]  # multiply-adds per second
    count = recipe.train_size or len(data.x_train) - recipe.validation
    steps = math.ceil(count / recipe.batch_size)
    moved = 28 * weights / 1e10  # Adam reads and writes seven numbers for each weight
    step = 3 * recipe.batch_size * products / speed + moved + 1e-4
    looked_at = 2 * min(count, 10_000) + 3 * (recipe.validation or len(data.x_test))
    return recipe.epochs * (steps * step + looked_at * products / speed)


def _size(recipe: Recipe, data: Dataset) -> tuple[float, float]:
    """Return a network's multiply-adds for an image, going forward, and how many weights it has."""
    rows, columns, colours = data.x_train.shape[1:]
    products = weights = 0.0
    inputs, pixels = rows * columns * colours, rows * columns
    if recipe.model != "mlp":
        inputs = columns * colours if recipe.model == "gru" else colours
    for index in range(recipe.depth):
        width = recipe.width
        if recipe.model == "mlp":
            layer, times = inputs * width, 1
        elif recipe.model == "gru":
            layer, times = 3 * width * (inputs + width), rows
        else:
            width *= 2**index
            layer, times = 9 * inputs * width, pixels / 4**index
        products += layer * times
        weights += layer
        inputs = width
    return products, weights


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What a scheduler must know of a job.

    Parameters
    ----------
    seconds : float
        About how long it takes.
    program : object
        What it shares with jobs that are the faster for following it in the same worker.
    cores : float
        How many it takes; infinity means that nothing else may run meanwhile.
    """

    seconds: float = 0.0
    program: object = None
    cores: float = 1


def choose(
    waiting: Sequence[Wanted],
    own: object,
    others: Collection[object],
    free: int,
    count: int,
) -> int | None:
    """Return which job an idle worker should begin.

    The longest jobs go first, as a long one that begins last keeps all waiting; but as long as
    no single job is that long, a worker stays with the program that it has compiled. It does not
    help another worker with the last jobs of a program if these take no longer than compiling it and
    doing half of them would.

    Parameters
    ----------
    waiting : sequence of Wanted
        The jobs that nobody has begun.
    own : object
        The program that the worker ran last.
    others : collection of object
        Those of the other workers.
    free : int
        Cores that nobody uses.
    count : int
        All cores, that is, workers.

    Returns
    -------
    int or None
        The job's position; None if the worker should wait.
    """
    fitting = [index for index, job in enumerate(waiting) if min(job.cores, count) <= free]
    work: Counter[object] = Counter()
    for index in fitting:
        work[waiting[index].program] += waiting[index].seconds  # type: ignore[assignment]
    others = {*others} - {own, None}
    fitting = [
        index
        for index in fitting
        if (program := waiting[index].program) not in others or work[program] >= 2 * COMPILING
    ]
    if not fitting:
        return None
    longest = max(fitting, key=lambda index: waiting[index].seconds)
    if waiting[longest].seconds * count >= sum(job.seconds for job in waiting):
        return longest

    def rank(index: int) -> tuple[bool, bool, float, float]:
        program = waiting[index].program
        return program == own, program not in others, work[program], waiting[index].seconds

    return max(fitting, key=rank)
