"""An experiment: one question's budget, images, runs and verdicts, from recipe to record."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

import numpy as np
import numpy.typing as npt
import pandas as pd

from bn_tutorial.data.cifar10 import load_cifar10
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single
from bn_tutorial.engines.batches import pixel_statistics
from bn_tutorial.engines.workbench import Engine
from bn_tutorial.evidence import measures
from bn_tutorial.evidence.measures import Drawn, Measure, runs_of
from bn_tutorial.evidence.records import record
from bn_tutorial.evidence.registry import hypotheses
from bn_tutorial.evidence.verdicts import Verdict, judge
from bn_tutorial.figures import along, canvas, compared, computed, maps, noted, over_epochs
from bn_tutorial.figures.canvas import NumberedFigure
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.settings import SEEDS, Profile, first_seed, profile
from bn_tutorial.training.runs import Run, Runs
from bn_tutorial.training.sweep import train

T = TypeVar("T")
P = ParamSpec("P")


def _shown(
    draw: Callable[Concatenate[Any, P], NumberedFigure],
) -> Callable[Concatenate[Experiment, P], None]:
    """Return a plot as a method, which returns nothing: a notebook would show the figure twice."""

    @functools.wraps(draw)
    def method(self: Experiment, /, *args: P.args, **kwargs: P.kwargs) -> None:
        draw(self, *args, **kwargs)

    return method


class Experiment:
    """One question under trial: it trains, draws, judges and records.

    Every run that it trained is in it, so that figures know their sample, and the record knows
    seeds, epochs, seconds and provenance. Its plots are the functions of `bn_tutorial.figures`, which
    return a figure with its numbers; the methods show it and return nothing.

    Parameters
    ----------
    name : str
        The experiment, as its file in ``hypotheses`` is called.
    budget : Profile, optional
        How much may be trained; the profile that ``BN_TUTORIAL_PROFILE`` names if nothing is said.
    data : Dataset, optional
        The images; those of the budget if nothing is said, loaded when they are first needed.

    Attributes
    ----------
    verdicts : dict of str to Verdict
        What `judge` found, by id.
    """

    panels = canvas.panels
    against, by_layer = _shown(along.against), _shown(along.by_layer)
    trajectories, dots = _shown(along.trajectories), _shown(compared.dots)
    effects, ratios = _shown(compared.effects), _shown(compared.ratios)
    heatmaps, lines = _shown(maps.heatmaps), _shown(computed.lines)
    batch_size_grid, curves = _shown(over_epochs.batch_size_grid), _shown(over_epochs.curves)
    histories, ranges = _shown(noted.histories), _shown(noted.ranges)
    learning_curves = _shown(over_epochs.learning_curves)
    two_scores = _shown(over_epochs.two_scores)

    def __init__(
        self, name: str, *, budget: Profile | None = None, data: Dataset | None = None
    ) -> None:
        self.name = name
        self.budget = budget or profile()
        self.verdicts: dict[str, Verdict] = {}
        self._data = data
        self._trained: dict[tuple[Recipe, int, str], Run] = {}

    @functools.cached_property
    def data(self) -> Dataset:
        """The images."""
        return self._data or load_cifar10(self.budget.source)

    @property
    def seeds(self) -> range:
        """The seeds of what is on trial: as many as its hypotheses plan, if the budget allows."""
        return self.seeds_of(*(n for n, one in hypotheses().items() if one.experiment == self.name))

    @property
    def few_seeds(self) -> range:
        """The seeds where runs are long, or nothing is on trial."""
        return self._seeds(self.budget.seeds)

    def seeds_of(self, *names: str) -> range:
        """Return the seeds that these hypotheses plan, the most of them, if the budget allows."""
        plans = [hypotheses()[name].plan for name in names]
        return self._seeds(max((plan.n for plan in plans if plan), default=SEEDS))

    def _seeds(self, count: int) -> range:
        return range(first := first_seed(), first + min(count, self.budget.most_seeds))

    def grid(self, values: Iterable[T]) -> list[T]:
        """Return the values to go through: all of them, or only the ends if there is no time."""
        return self.budget.grid(values)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._trained.values())

    def __repr__(self) -> str:
        return f"<Experiment {self.name!r}: {len([*self])} runs, {len(self.verdicts)} verdicts>"

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes that were trained, each once."""
        return Runs(self._trained.values()).recipes

    def of(self, recipe: Recipe) -> Runs:
        """Return the runs of one recipe, by seed.

        Raises
        ------
        KeyError
            If it was not trained.
        ValueError
            If it was trained by several engines: use what `train` returned.
        """
        found = {key: run for key, run in self._trained.items() if key[0] == recipe}
        if len({engine for _, _, engine in found}) > 1:
            raise ValueError(
                f"“{recipe.label}” was trained by several engines: use the runs that train() returned."
            )
        return Runs(found.values()).of(recipe)

    def train(
        self,
        recipes: Recipe | Iterable[Recipe] | Mapping[Recipe, Iterable[int]],
        seeds: Iterable[int] | None = None,
        *,
        engine: Engine | None = None,
        ends: bool = False,
        **how: Any,
    ) -> Runs:
        """Train every recipe with every seed; what is stored already is not trained again.

        Parameters
        ----------
        recipes : Recipe or iterable of Recipe, or mapping of Recipe to iterable of int
            What to train; a mapping says with which seeds each.
        seeds : iterable of int, optional
            With which seeds; `seeds` of the experiment if nothing is said.
        engine : callable, optional
            What trains, for instance one of `bn_tutorial.engines.observe`.
        ends : bool
            Whether it is `bn_tutorial.engines.single.ends`, which measures at the end alone.
        **how
            More for `bn_tutorial.train`.

        Returns
        -------
        Runs
            The runs of this call. The experiment has them, too.
        """
        seeds = self.seeds if seeds is None else seeds
        runs = train(recipes, self.data, seeds, engine=single.ends if ends else engine, **how)
        self._trained |= {(run.recipe, run.seed, str(run.provenance.engine)): run for run in runs}
        return runs

    @overload
    def final(self, metric: Measure, recipe: Drawn, /) -> pd.Series[float]: ...
    @overload
    def final(self, metric: Measure, /, **arms: Drawn) -> dict[str, pd.Series[float]]: ...
    def final(self, metric: Measure, recipe: Drawn | None = None, /, **arms: Drawn) -> Any:
        """Return a metric after the last epoch, by seed, of one recipe or of several arms.

        Parameters
        ----------
        metric : str or callable
            A name in a run's history, or a measure such as `bn_tutorial.evidence.measures.gap`.
        recipe : Recipe or Runs
            What was trained.
        **arms
            Recipes or runs by the names of their arms, in place of the one recipe.

        Returns
        -------
        pandas.Series, or dict of str to pandas.Series
            Values by seed, NaN where a run diverged; for arms, by their names.
        """
        if recipe is not None:
            return measures.final(runs_of(self, recipe), metric)
        return {arm: measures.final(runs_of(self, one), metric) for arm, one in arms.items()}

    def tested(
        self, metric: str, recipe: Drawn | None = None, /, *, epochs: int = 1, **arms: Drawn
    ) -> Any:
        """Return an accuracy on the test images, by seed and part of these.

        Parameters
        ----------
        metric, epochs
            As for `bn_tutorial.evidence.measures.by_part`.
        recipe, **arms
            As for `final`.

        Returns
        -------
        pandas.DataFrame, or dict of str to pandas.DataFrame
            For arms, by their names.
        """
        if recipe is not None:
            return measures.by_part(runs_of(self, recipe), metric, epochs)
        return {arm: self.tested(metric, one, epochs=epochs) for arm, one in arms.items()}

    def best(self, metric: str, recipes: Iterable[Recipe]) -> Recipe:
        """Return the recipe with the best mean over the seeds that all have: of a loss the lowest.

        Parameters
        ----------
        metric : str
            A metric of training or validation images. A recipe with a run that diverged is
            chosen only if all have one.
        recipes : iterable of Recipe
            What to choose from.

        Raises
        ------
        ValueError
            If the test images would choose.
        """
        return _best(metric, [self.of(recipe) for recipe in recipes])

    def inputs(self, recipe: Recipe, count: int | None = None) -> npt.NDArray[np.float32]:
        """Return training images as a recipe's network is given them.

        Parameters
        ----------
        recipe : Recipe
            Its ``inputs``, ``train_size`` and ``validation`` decide.
        count : int, optional
            How many; all that the recipe trains on with the first seed, if nothing is said.

        Returns
        -------
        numpy.ndarray, shape (count, rows, columns, colours)
        """
        images = self.data.draw(self.seeds[0], recipe.train_size, recipe.validation).x_train
        if recipe.inputs == "unit":
            return np.asarray(images[:count] / 255, np.float32)
        pixel_mean, pixel_std = pixel_statistics(images)
        return np.asarray((images[:count] - pixel_mean) / pixel_std, np.float32)

    def judge(
        self,
        measured: Mapping[str, Mapping[str, Any]],
        *,
        of: str = "",
        open_ended: Mapping[str, int] | None = None,
        alt: str = "",
    ) -> None:
        """Hold what was measured against the registered hypotheses; print and keep the `verdicts`.

        Parameters
        ----------
        measured : mapping
            ``measured[id][arm]`` has a value by seed, for instance from `final`.
        of : str
            The experiment under which the hypotheses are registered, if it is another one. Then
            only those measured are judged.
        open_ended : mapping of str to int, optional
            Where only a bound of the effect is known, as for `bn_tutorial.evidence.judge`.
        alt : str
            The alternative text of a figure of the effects, of all hypotheses that have a label and
            are of one unit; without it, there is no figure.
        """
        verdicts = judge(
            of or self.name, measured, sample=self.data.is_sample, open_ended=open_ended
        )
        self.verdicts |= {name: verdicts[name] for name in (measured if of else verdicts)}
        print("\n\n".join(map(str, self.verdicts.values())))
        these = "these verdicts" if len(self.verdicts) > 1 else "this verdict"
        print(f"\nIn words, as registered for {these}:\n")
        print("\n".join(verdict.sentence for verdict in self.verdicts.values()))
        if alt:
            found = [one for one in self.verdicts.values() if one.hypothesis.label]
            effects = {one.hypothesis.label: one.effect for one in found}
            (unit,) = {one.hypothesis.unit for one in found}
            judged = [one.hypothesis for one in found if not one.hypothesis.estimate]
            size = math.exp if unit == "ratio" else abs
            matter = {one.label: size(abs(one.bound)) for one in judged}
            compared.effects(self, effects, unit=unit, smallest=matter, alt=alt)

    def record(self, **own: object) -> None:
        """Store the verdicts and what pages may quote, and print how long the training took.

        Of all runs the seconds and the provenance are stored, too; and how many seeds, epochs (or rounds,
        where verdicts count these) and training images a recipe had, or the least and the most of them.

        Parameters
        ----------
        **own
            What else the experiment found, by name, as for `bn_tutorial.evidence.record`.
        """
        runs = [*self]
        seconds = sum(run.provenance.seconds or 0 for run in runs)
        trained = Runs(self._trained.values())
        seeds = [len({run.seed for run in trained if run.recipe == one}) for one in trained.recipes]
        counted = {verdict.counted for verdict in self.verdicts.values() if verdict.effect.n}
        epochs = "rounds" if counted == {"round"} else "epochs"
        known = {
            "seeds": _extent(seeds),
            epochs: _extent([recipe.epochs for recipe in trained.recipes]),
            "images": _extent([self._images(recipe) for recipe in trained.recipes]),
            "seconds": seconds,
        }
        record(self.name, self.verdicts, runs=runs, **known, **own)
        print(f"The runs behind this page took {seconds:.0f} s.")

    def _images(self, recipe: Recipe) -> int:
        return recipe.train_size or len(self.data.x_train) - recipe.validation


def _best(metric: str, candidates: list[Runs]) -> Recipe:
    for runs in candidates:
        (recipe,) = runs.recipes
        if metric.startswith("test_") or (metric.startswith("val_") and not recipe.validation):
            raise ValueError(
                f"{metric!r} of “{recipe.label}” is measured on test images, which choose nothing: "
                "hold out validation images."
            )
    sign = -1 if "loss" in metric else 1
    values = [measures.final(runs, metric) for runs in candidates]
    shared = sorted(set.intersection(*(set(one.index) for one in values)))
    means = [sign * one.loc[shared].mean(skipna=False) for one in values]
    return candidates[int(np.argmax(np.nan_to_num(means, nan=-np.inf)))].recipes[0]


def _extent(values: list[int]) -> int | list[int]:
    """Return what all values are, or the least and the most."""
    least, most = min(values), max(values)
    return least if least == most else [least, most]
