"""Effects with their intervals, and how they are written."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from bn_tutorial.evidence.registry import UNITS

if TYPE_CHECKING:
    import pandas as pd


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
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]
    level: float = 0.95

    @property
    def n(self) -> int:
        """How many values were averaged."""
        return len(self.values)

    def __format__(self, spec: str) -> str:
        """Format mean and interval; ``pp`` in the spec means percentage points."""
        mean, low, high = (write(value, spec) for value in (self.mean, self.low, self.high))
        unit = "percentage points " if spec.endswith("pp") else ""
        return f"{mean} {unit}({100 * self.level:g} % interval {low} to {high}, n = {self.n})"


def interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """Return the mean of independent values and its interval.

    Parameters
    ----------
    values : iterable of float
        One value per seed.
    level : float
        The level of confidence.

    Raises
    ------
    ValueError
        If there is no value.
    """
    values = tuple(float(value) for value in values)
    if not values:
        raise ValueError("an interval needs at least one value.")
    if not all(map(math.isfinite, values)):
        return Interval(math.nan, math.nan, math.nan, values, level)
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan, values, level)
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2)) * standard_error(values)
    return Interval(mean, mean - half, mean + half, values, level)


def difference(
    first: Mapping[int, float] | pd.Series[float], second: Mapping[int, float] | pd.Series[float]
) -> Interval:
    """Return the mean of second − first, paired by seed.

    Parameters
    ----------
    first, second : mapping of seed to float, or pandas.Series
        For instance from `Runs.final`.

    Raises
    ------
    ValueError
        If the seeds are not the same, or there is none.
    """
    first, second = by_seed(first), by_seed(second)
    if set(first) != set(second):
        raise ValueError(
            "a paired difference needs the same seeds on both sides: "
            f"not {sorted(first)} and {sorted(second)}."
        )
    return interval(second[seed] - first[seed] for seed in sorted(first))


def by_seed(values: Any) -> dict[int, float]:
    """Return a series or a mapping by seed as a dict."""
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
        For instance ``+1.2 pp (−0.3 to +2.7)`` or ``×1.5 (1.2 to ?)``; a dash without a mean.
    """
    if mean is None or not math.isfinite(mean):
        return "–"
    middle, *ends = (
        write(value, UNITS[unit]) if value is not None and math.isfinite(value) else "?"
        for value in (mean, low, high)
    )
    sign, points = "×" if unit == "ratio" else "", " pp" if unit == "points" else ""
    return f"{sign}{middle}{points} ({' to '.join(ends)})"


def exponential(effect: Interval) -> Interval:
    """Return the ratio that belongs to a difference of logarithms."""
    with np.errstate(over="ignore"):  # two seeds can give an interval without a finite end
        mean, low, high, *values = map(
            float,
            np.exp([effect.mean, effect.low, effect.high, *effect.values]),
        )
    return Interval(mean, low, high, tuple(values), effect.level)


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
