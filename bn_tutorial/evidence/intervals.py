"""Effects with their intervals, and how they are written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from scipy import special

from bn_tutorial.evidence.registry import UNITS

#: Parts of the test images, of which runs keep their accuracies apart.
PARTS = 20


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval (Student's t).

    Parameters
    ----------
    mean, low, high : float
        In the unit of the values; `low` and `high` are NaN for fewer than two values, and
        all three are NaN if a value is not finite.
    values : tuple of float
        What was averaged, one value per seed.
    level : float
        The interval's level of confidence.
    shared : float
        The standard error of what all values have in common, and more seeds do not reduce: the choice
        of the test images, or how finely values are told apart. Of a ratio, of its logarithm.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    level: float = 0.95
    shared: float = 0.0

    @property
    def n(self) -> int:
        """How many values were averaged."""
        return len(self.values)

    def __format__(self, spec: str) -> str:
        """Format mean and interval; ``pp`` in the spec means percentage points."""
        mean, low, high = (write(value, spec) for value in (self.mean, self.low, self.high))
        unit = " points" if spec.endswith("pp") else ""
        return f"{mean}{unit} [{low} to {high}]"


def interval(values: Iterable[float], level: float = 0.95, shared: float = 0.0) -> Interval:
    """Return the mean of independent values and its interval.

    Parameters
    ----------
    values : iterable of float
        One value per seed.
    level : float
        The level of confidence.
    shared : float
        As in `Interval`.

    Raises
    ------
    ValueError
        If there is no value.
    """
    values = tuple(float(value) for value in values)
    if not values:
        raise ValueError("an interval needs at least one value.")
    if not all(map(math.isfinite, values)):
        return Interval(math.nan, math.nan, math.nan, values, level, shared)
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, values, level, shared)
    half = float(half_width(standard_error(values), len(values), level, shared))
    return Interval(mean, mean - half, mean + half, values, level, shared)


def half_width(error: Any, n: int, level: float, shared: Any) -> Any:
    """Return half the width of the interval of a mean of `n` values.

    What the spread of the values and what the choice of images allow are each given its own
    Student's t, and added as the sides of a right angle. (To add the variances first and to pool
    their degrees of freedom would be too narrow for few seeds.)

    Parameters
    ----------
    error : float or ndarray
        The standard error of the mean, from the spread of its values.
    n : int
        How many values; at least two.
    level, shared : float
        As in `Interval`.
    """
    own, images = special.stdtrit([n - 1, PARTS - 1], (1 + level) / 2)
    return np.hypot(own * error, images * shared)


def difference(first: Any, second: Any, level: float = 0.95) -> Interval:
    """Return the mean of second − first, paired by seed and, if both have them, by image.

    Parameters
    ----------
    first, second : mapping of seed to float, pandas.Series, or pandas.DataFrame
        For instance from `Runs.final`. A table has a row for each seed, a column for each part of
        the test images, which all seeds have in common.
    level : float
        The level of confidence.

    Raises
    ------
    ValueError
        If the seeds are not the same, or there is none; or if only one side has parts.
    """
    values, others = by_seed(first), by_seed(second)
    if set(values) != set(others):
        raise ValueError(
            "a paired difference needs the same seeds on both sides: "
            f"not {sorted(values)} and {sorted(others)}."
        )
    seeds = sorted(values)
    shared = 0.0
    tables = [getattr(one, "ndim", 1) == 2 for one in (first, second)]
    if any(tables) and not all(tables):
        raise ValueError("a difference needs parts of the test images on both sides, or on none.")
    if all(tables):
        by_part = (second - first).mean(axis=0, skipna=False)
        shared = standard_error(tuple(by_part)) if len(by_part) > 1 else 0.0
    return interval((others[seed] - values[seed] for seed in seeds), level, shared)


def by_seed(values: Any) -> dict[int, float]:
    """Return a series, a mapping or a table by seed as a dict; of a table each row's mean."""
    values = values.mean(axis=1, skipna=False) if getattr(values, "ndim", 1) == 2 else values
    return {int(seed): float(value) for seed, value in values.items()}


def brief(mean: float | None, low: float | None, high: float | None, unit: str) -> str:
    """Return an effect and its interval in as few words as possible.

    Parameters
    ----------
    mean, low, high : float or None
        In the unit; None, or a value that is not finite, where there is none.
    unit : str
        One of `bn_tutorial.evidence.UNITS`.

    Returns
    -------
    str
        For instance ``+1.2 pp [−0.3 to +2.7]`` or ``×1.5 [1.2 to ?]``; a dash without a mean.
    """
    if mean is None or not math.isfinite(mean):
        return "–"
    middle, *ends = (
        write(value, UNITS[unit]) if value is not None and math.isfinite(value) else "?"
        for value in (mean, low, high)
    )
    sign, points = "×" if unit == "ratio" else "", " pp" if unit == "points" else ""
    return f"{sign}{middle}{points} [{' to '.join(ends)}]"


def plain(
    mean: float | None, low: float | None, high: float | None, unit: str, noun: str = ""
) -> tuple[str, str]:
    """Return an effect in plain words, and its interval.

    Parameters
    ----------
    mean, low, high, unit
        As for `brief`.
    noun : str
        As `bn_tutorial.evidence.Hypothesis` has it.

    Returns
    -------
    effect, interval : str
        For instance ``8.2 points higher`` and ``6.9 to 9.5``; ``0.3 points lower`` and ``1.2 lower to
        0.6 higher``, if the interval has both directions; or ``18 times as high`` and ``8.6 to ?``.
        A dash and nothing without a mean.
    """
    if mean is None or not math.isfinite(mean):
        return "–", ""
    ends = [end if end is not None and math.isfinite(end) else None for end in (low, high)]
    size = UNITS[unit].lstrip("+")
    if unit == "ratio":
        bounds = ["?" if end is None else write(end, size) for end in ends]
        return f"{write(mean, size)} times as {noun or 'high'}", " to ".join(bounds)
    counted = " points" if unit == "points" else f" {noun}" if noun else ""

    def way(value: float) -> str:
        if noun:
            return "more" if value >= 0 else "less"
        return "higher" if value >= 0 else "lower"

    def length(value: float | None) -> str:
        return "?" if value is None else write(abs(value), size)

    known = [end for end in ends if end is not None]
    if len({way(end) for end in (mean, *known)}) == 1:
        bounds = [length(end) for end in (ends if mean >= 0 else reversed(ends))]
    else:
        bounds = ["?" if end is None else f"{length(end)} {way(end)}" for end in ends]
    return f"{length(mean)}{counted} {way(mean)}", " to ".join(bounds)


def exponential(effect: Interval) -> Interval:
    """Return the ratio that belongs to a difference of logarithms."""
    with np.errstate(over="ignore"):  # two seeds can give an interval without a finite end
        mean, low, high, *values = map(
            float,
            np.exp([effect.mean, effect.low, effect.high, *effect.values]),
        )
    return Interval(mean, low, high, tuple(values), effect.level, effect.shared)


def standard_error(values: tuple[float, ...]) -> float:
    """Return the standard error of a mean of at least two values."""
    n, mean = len(values), math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def write(value: Any, spec: str) -> str:
    """Return a value as text; ``pp`` at the end of the spec means percentage points of a share."""
    if spec.endswith("pp"):
        value, spec = 100 * value, spec.removesuffix("pp") + "f"
    text = format(value, spec)
    if not isinstance(value, float):
        return text
    size = text.lstrip("+-")
    if not size.strip("0.%"):
        return size  # what is rounded to zero has no sign
    return f"−{size}" if text.startswith("-") else text
