"""What experiments read from runs beyond a metric's last value, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from bn_tutorial.evidence.intervals import PARTS
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.runs import Run, Runs


class Trained(Protocol):
    """Whatever holds runs: an `Experiment`, or `Runs`."""

    def of(self, recipe: Recipe, /) -> Runs:
        """Return the runs of one recipe, by seed."""

    def __iter__(self) -> Iterator[Run]:
        """Go through all runs."""

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes, each once."""


#: What is asked of runs by name, or computed from the runs of one recipe: shape (seeds, epochs).
Measure = str | Callable[[Runs], npt.NDArray[np.float64]]

#: A recipe, which means its runs in an experiment, or runs of one recipe.
Drawn = Recipe | Runs


def runs_of(trial: Trained, drawn: Drawn) -> Runs:
    """Return the runs that are meant by a recipe, or by themselves."""
    return trial.of(drawn) if isinstance(drawn, Recipe) else drawn


def by_seed(runs: Runs, values: Any) -> pd.Series[float]:
    """Return one value per run as a series by seed, so that differences pair by themselves."""
    seeds = pd.Index([run.seed for run in runs], name="seed")
    return pd.Series(np.asarray(values, float), index=seeds)


def courses(runs: Runs, measure: Measure) -> npt.NDArray[np.float64]:
    """Return what is measured for each seed and epoch."""
    return runs.curves(measure) if isinstance(measure, str) else measure(runs)


def final(runs: Runs, measure: Measure) -> pd.Series[float]:
    """Return what is measured after the last epoch, by seed; NaN where a run diverged."""
    values = (
        last(runs, measure) if isinstance(measure, str) else by_seed(runs, measure(runs)[:, -1])
    )
    return values.where(np.array([not run.diverged for run in runs]))


def last(runs: Runs, metric: str, guessing: float = math.nan) -> pd.Series[float]:
    """Return the last value of a metric, by seed, of failed runs, too.

    Parameters
    ----------
    runs : Runs
        Of one recipe.
    metric : str
        A name in a run's history.
    guessing : float
        What counts where a run diverged before this was measured.
    """
    return by_seed(runs, [run.history.get(metric, [guessing])[-1] for run in runs])


def by_part(runs: Runs, metric: str, epochs: int = 1, guessing: float = 0.1) -> pd.DataFrame:
    """Return an accuracy on the test images, by seed and by part of these images.

    All runs are tested on the same images, so an effect on their accuracy is uncertain in two ways:
    other seeds would give another, and so would other images.

    Parameters
    ----------
    runs : Runs
        Of one recipe.
    metric : str
        The name of an accuracy on the test images in a run's history.
    epochs : int
        Over how many of the last epochs it is averaged.
    guessing : float
        What counts if the run diverged, which is an outcome like any other.

    Returns
    -------
    pandas.DataFrame
        A row for each seed, a column for each part of the test images.
    """
    parts = sorted(
        {
            int(name.rpartition("/")[2])
            for run in runs
            for name in run.history
            if name.startswith(f"{metric}/")
        }
    )
    parts = parts or [*range(PARTS)]  # all diverged
    rows = [
        [
            guessing if run.diverged else float(np.mean(run.history[f"{metric}/{part}"][-epochs:]))
            for part in parts
        ]
        for run in runs
    ]
    return pd.DataFrame(rows, pd.Index([run.seed for run in runs], name="seed"), parts)


def fails(run: Run, classes: int = 10) -> bool:
    """Return whether a run diverged, or ended no better on training images than guessing."""
    guessing = math.log(classes) - 0.001  # a dead network is within
    return run.diverged or run.history["fit_loss"][-1] >= guessing


def roughness(runs: Runs, metric: str) -> pd.Series[float]:
    """Return, by seed, the mean absolute change of a metric from epoch to epoch."""
    return by_seed(runs, np.abs(np.diff(runs.curves(metric), axis=1)).mean(axis=1))


def overall(runs: Runs, measure: Measure) -> pd.Series[float]:
    """Return, by seed, the geometric mean over the epochs of something positive."""
    return by_seed(runs, np.exp(np.log(courses(runs, measure)).mean(axis=1)))


def by_layer(runs: Runs, name: str, *, geometric: bool = False) -> pd.DataFrame:
    """Return a measure of each layer, averaged over epochs.

    Parameters
    ----------
    runs : Runs
        Whose histories have ``name/0``, ``name/1`` and so on.
    name : str
        The measure.
    geometric : bool
        Whether the mean over epochs is the geometric one, which no single epoch rules.

    Returns
    -------
    pandas.DataFrame
        A row for each seed, a column for each layer that has the measure.
    """
    first = next(iter(runs)).history
    layers = [int(key.rpartition("/")[2]) for key in first if key.startswith(f"{name}/")]
    courses = [[run.history[f"{name}/{layer}"] for layer in layers] for run in runs]
    values = [
        [np.exp(np.mean(np.log(one))) if geometric else np.mean(one) for one in row]
        for row in courses
    ]
    return pd.DataFrame(values, pd.Index([run.seed for run in runs], name="seed"), layers)


def by_step(runs: Runs, name: str) -> pd.DataFrame:
    """Return the course of what an engine measured between epochs.

    Parameters
    ----------
    runs : Runs
        Of one recipe, whose histories count the ``step``.
    name : str
        The measure.

    Returns
    -------
    pandas.DataFrame
        A row for each seed, a column for each step at which it was measured.
    """
    steps = pd.Index(next(iter(runs)).history["step"], name="step")
    seeds = pd.Index([run.seed for run in runs], name="seed")
    return pd.DataFrame([run.history[name] for run in runs], seeds, steps)


# Two networks where they fit the training images equally well


def gap(runs: Runs) -> npt.NDArray[np.float64]:
    """Return training minus validation accuracy for each seed and epoch."""
    return runs.curves("fit_accuracy") - runs.curves("val_accuracy_population")


def misfit(runs: Runs, along: str = "fit_loss") -> npt.NDArray[np.float64]:
    """Return for each seed and epoch a training loss; of an accuracy, the share of errors."""
    return 1 - runs.curves(along) if "accuracy" in along else runs.curves(along)


def at_equal_fit(
    trial: Trained,
    arms: Mapping[str, Drawn],
    measure: Measure,
    levels: Iterable[float],
    along: str = "fit_loss",
) -> dict[str, pd.Series[float]]:
    """Compare networks where they fit the training images equally well.

    Parameters
    ----------
    trial : Experiment or Runs
        Where the runs are.
    arms : mapping of str to Recipe or Runs
        The networks.
    measure : str or callable
        What to compare.
    levels : iterable of float
        At which fits, as `misfit` tells them.
    along : {"fit_loss", "fit_accuracy"}
        What tells how well they fit.

    Returns
    -------
    dict of str to pandas.Series
        For each network the measure by seed: the mean over the fits, at each of which it is
        interpolated between the two epochs about the first crossing; NaN where one is not reached.
    """
    runs = {arm: runs_of(trial, drawn) for arm, drawn in arms.items()}
    chosen = [*levels]
    return {
        arm: by_seed(found, np.mean([_at(found, one, measure, along) for one in chosen], axis=0))
        for arm, found in runs.items()
    }


def _at(runs: Runs, level: float, measure: Measure, along: str) -> list[float]:
    found = []
    for fit, values in zip(misfit(runs, along), courses(runs, measure), strict=True):
        reached = np.argmax(fit <= level)
        around = slice(max(reached - 1, 0), reached + 1)  # the epochs to interpolate
        there = float(np.interp(-level, -fit[around], values[around]))
        found.append(there if fit[reached] <= level else math.nan)
    return found
