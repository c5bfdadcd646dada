"""Runs: what training leaves behind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.provenance import Provenance

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained network.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    seed : int
        With which seed.
    history : dict of str to list of float
        Each metric after each epoch.
    provenance : Provenance
        What it was computed with, by which engine, when, and in how many seconds.
    """

    recipe: Recipe
    seed: int
    history: dict[str, list[float]]
    provenance: Provenance

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being finite; the history ends there."""
        return not all(
            math.isfinite(value)
            for name in ("loss", "val_loss")
            for value in self.history.get(name, ())
        )


class Runs:
    """A collection of runs, in the order in which they were asked for.

    Parameters
    ----------
    runs : iterable of Run
        The runs.
    """

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs = tuple(runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __add__(self, other: Runs) -> Runs:
        return Runs((*self, *other))

    def __repr__(self) -> str:
        return f"<Runs: {len(self)} of {len(self.recipes)} recipes>"

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes, each once."""
        return tuple(dict.fromkeys(run.recipe for run in self))

    def of(self, recipe: Recipe) -> Runs:
        """Return the runs of one recipe, by seed.

        Raises
        ------
        KeyError
            If there is none.
        """
        found = sorted((run for run in self if run.recipe == recipe), key=lambda run: run.seed)
        if not found:
            raise KeyError(f"no run of the recipe “{recipe.label}”")
        return Runs(found)

    def final(self, metric: str) -> pd.Series[float]:
        """Return a metric after the last epoch, by seed; NaN where the run diverged.

        The difference of two such series pairs the seeds by itself.

        Parameters
        ----------
        metric : str
            Of the history.

        Returns
        -------
        pandas.Series
            Of float64, named like the metric; its index, ``seed``, is in the order of the runs.

        Raises
        ------
        ValueError
            If the runs are of several recipes.
        """
        if len(self.recipes) != 1:
            raise ValueError("final() takes the runs of one recipe: choose it with of(recipe).")
        import pandas as pd  # takes a second, which not every reader of runs needs

        values = [math.nan if run.diverged else run.history[metric][-1] for run in self]
        seeds = pd.Index([run.seed for run in self], name="seed")
        return pd.Series(values, seeds, dtype="float64", name=metric)

    def curves(self, metric: str) -> npt.NDArray[np.float64]:
        """Return a metric's course, shape (runs, epochs); NaN after a run diverged.

        What was measured once, at the end, stands in the last epoch.
        """
        longest = max(max(run.recipe.epochs, len(run.history[metric])) for run in self)
        curves = np.full((len(self), longest), np.nan)
        for row, run in zip(curves, self, strict=True):
            values = run.history[metric]
            once = len(values) == 1 and not run.diverged
            start = run.recipe.epochs - 1 if once else 0
            row[start : start + len(values)] = values
        return curves

    def frame(self) -> pd.DataFrame:
        """Return a tidy table: a row for each run and epoch.

        Returns
        -------
        pandas.DataFrame
            The recipe's fields, ``seed``, ``epoch`` (from 1), each metric, ``diverged``. What
            was measured once stands in the row of the last epoch.
        """
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    **run.recipe.asdict(),
                    "seed": run.seed,
                    "epoch": epoch,
                    **{
                        name: values[epoch - 1 - count]
                        for name, values in run.history.items()
                        if len(values) > count - epoch
                    },
                    "diverged": run.diverged,
                }
                for run in self
                for count in (len(run.history["loss"]),)
                for epoch in range(1, count + 1)
            ]
        )
