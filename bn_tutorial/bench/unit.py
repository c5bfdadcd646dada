"""The unit in which builds are timed: the notebook's own six runs, on the same machine."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from bn_tutorial.bench.apart import apart
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.schedule import cores

#: The notebook's runs: the baseline, and with batch normalisation once more at 32 and at three sizes.
RUNS = ((None, 32), ("batch", 32), ("batch", 32), ("batch", 64), ("batch", 128), ("batch", 256))


def unit(data: Dataset, report: Callable[[str], object] = lambda line: None) -> float:
    """Time two epochs of each of the notebook's runs, with all cores, and add up to ten of each.

    Parameters
    ----------
    data : Dataset
        The images.
    report : callable
        Is given a line of text for each recipe.

    Returns
    -------
    float
        The seconds that the six runs would take: of each what comes before the first epoch ends, and
        nine times the second epoch.
    """
    counts = {
        Recipe(batch_size=size, epochs=2).but(norm=norm): times
        for (norm, size), times in Counter(RUNS).items()
    }
    total = 0.0
    timed = apart(epochs, [*counts], data, threads=cores())
    for (recipe, times), (first, second) in zip(counts.items(), timed, strict=True):
        report(f"the notebook, {recipe.label}: {first:.2f} s, then {second:.2f} s an epoch")
        total += times * (first + 9 * second)
    return total


def epochs(recipes: Iterable[Recipe], data: Dataset) -> list[list[float]]:
    """Return the seconds of each epoch of the notebook's loop; the first includes all preparation."""
    timed = []
    for recipe in recipes:
        seconds, started = [], time.perf_counter()
        with Workbench(data) as bench:
            for _ in notebook.fit(bench, recipe, 0):
                seconds.append(time.perf_counter() - started)
                started = time.perf_counter()
        timed.append(seconds)
    return timed
