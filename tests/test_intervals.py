"""Effects with their intervals, and how they are written."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bn_tutorial.evidence import Interval, brief, difference, interval, plain

NAN = math.nan
Values = dict[int, float]


@pytest.mark.parametrize("level", [0.95, 0.9])
@pytest.mark.parametrize("values", [(1.0, 2.0), (0.1, -0.2, 0.4), tuple(range(10))])
def test_an_interval_is_that_of_student(values: tuple[float, ...], level: float) -> None:
    found = interval(values) if level == 0.95 else interval(values, level)
    low, high = stats.t.interval(
        level, df=len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert found.level == level
    assert found.mean == pytest.approx(np.mean(values), rel=1e-12)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.values == values
    assert found.n == len(values)


def test_an_interval_by_hand() -> None:
    assert interval([5, 5]) == Interval(5, 5, 5, (5, 5))
    # t(0.975; 2) = 4.302653, standard deviation 1, √3 = 1.732051
    found = interval([1, 2, 3])
    assert (found.low, found.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_an_interval_of_one_value_has_no_ends() -> None:
    found = interval(iter([3]))
    assert (found.mean, found.n) == (3, 1)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize("bad", [(NAN, 1), (math.inf, 1), (math.inf, -math.inf)])
def test_an_interval_of_a_value_that_is_not_finite_has_no_ends(bad: tuple[float, ...]) -> None:
    found = interval([1, *bad])
    assert all(map(math.isnan, (found.mean, found.low, found.high)))
    assert found.n == 3


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_a_difference_is_paired_by_seed() -> None:
    first, second = {0: 1.0, 1: 10.0, 2: 100.0}, {2: 101.5, 0: 2.0, 1: 11.0}
    assert difference(first, second).values == (1.0, 1.0, 1.5)
    assert difference(second, first).values == (-1.0, -1.0, -1.5)
    assert difference(first, second) == interval([1.0, 1.0, 1.5])


@pytest.mark.parametrize("second", [{0: 1.0}, {0: 1.0, 2: 1.0}, {0: 1.0, 1: 1.0, 2: 1.0}])
def test_a_difference_needs_the_same_seeds(second: Values) -> None:
    with pytest.raises(ValueError, match=r"the same seeds on both sides: not \[0, 1\] and \[0"):
        difference({1: 0.0, 0: 0.0}, second)
    with pytest.raises(ValueError, match="at least one value"):
        difference({}, {})


# Formats


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (".1pp", "1.2 points [−0.6 to 3.1]"),
        ("+.1pp", "+1.2 points [−0.6 to +3.1]"),
        (".3f", "0.012 [−0.006 to 0.031]"),
        ("+.0pp", "+1 points [−1 to +3]"),
        ("+.1f", "0.0 [0.0 to 0.0]"),
        (".0%", "1% [−1% to 3%]"),
    ],
)
def test_an_interval_as_text(spec: str, text: str) -> None:
    assert format(Interval(0.0124, -0.006, 0.0308, (0.0, 0.0, 0.0372)), spec) == text


def test_a_series_is_paired_by_seed_too() -> None:
    first = pd.Series([1.0, 2.0], pd.Index([0, 1], name="seed"))
    assert difference(first, first[::-1] + 1) == interval([1.0, 1.0])


@pytest.mark.parametrize(
    ("effect", "unit", "text"),
    [
        ((0.0124, -0.006, 0.0308), "points", "+1.2 pp [−0.6 to +3.1]"),
        ((1.5, 1.25, math.inf), "ratio", "×1.5 [1.25 to ?]"),
        ((-0.5, NAN, None), "number", "−0.5 [? to ?]"),
        ((None, 0.1, 0.2), "points", "–"),
        ((NAN, 0.1, 0.2), "ratio", "–"),
    ],
)
def test_an_effect_in_few_words(
    effect: tuple[float | None, float | None, float | None], unit: str, text: str
) -> None:
    assert brief(*effect, unit) == text


@pytest.mark.parametrize(
    ("effect", "unit", "text", "bounds"),
    [
        ((0.082, 0.069, 0.095), "points", "8.2 points higher", "6.9 to 9.5"),
        ((-0.157, -0.19, -0.12), "points", "15.7 points lower", "12.0 to 19.0"),
        ((0.003, -0.002, 0.005), "points", "0.3 points higher", "0.2 lower to 0.5 higher"),
        ((-0.01, NAN, None), "points", "1.0 points lower", "? to ?"),
        ((18.2, 8.64, math.inf), "ratio", "18.2 times as high", "8.64 to ?"),
        ((0.42, 0.37, 0.49), "ratio", "0.42 times as high", "0.37 to 0.49"),
        ((-0.157, -0.175, -0.139), "number", "0.157 lower", "0.139 to 0.175"),
        ((None, 0.1, 0.2), "points", "–", ""),
    ],
)
def test_an_effect_in_plain_words(
    effect: tuple[float | None, float | None, float | None], unit: str, text: str, bounds: str
) -> None:
    assert plain(*effect, unit) == (text, bounds)


def test_an_effect_is_counted_in_its_own_noun() -> None:
    assert plain(1.7, 1.5, 2, "ratio", "long")[0] == "1.7 times as long"
    effect = plain(-0.5, -1.1, 0.2, "number", "powers of ten")
    assert effect == ("0.5 powers of ten less", "1.1 less to 0.2 more")
