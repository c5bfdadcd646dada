"""Which word an interval deserves, and how probable each word is in another build."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from bn_tutorial.evidence.intervals import Interval, half_width, standard_error
from bn_tutorial.evidence.registry import Hypothesis, Plan

#: How often the intervals of all primary hypotheses of an experiment hold together, at least.
LEVEL = 0.95
#: A verdict that another build would give less often than this is a close call.
CLOSE = 0.9
#: Inconclusive, but on the claimed side.
LEANING = "leaning"


def level(one: Hypothesis, family: int) -> float:
    """Return the level of a hypothesis's interval, of as many primary ones in its experiment."""
    return 1 - (1 - LEVEL) / family if one.primary else LEVEL


def word_for(one: Hypothesis, low: float, high: float) -> str:
    """Return the word for an interval with these ends (of a ratio, their logarithms)."""
    low, high = sorted((one.direction * low, one.direction * high))
    if low > one.bound:
        return "supported"
    if high < -abs(one.bound):
        return "contradicted"
    return "not supported" if high < one.bound else "inconclusive"


def power(one: Hypothesis, plan: Plan, family: int) -> float:
    """Return how probable the word is that the planned effect deserves.

    An effect the other way, beyond the smallest that matters, deserves "contradicted"; "not supported"
    says less, but nothing false, and counts if it is the more probable one.

    Parameters
    ----------
    one : Hypothesis
        What is on trial.
    plan : Plan
        The effect and the spread to be expected, and the number of seeds.
    family : int
        How many primary hypotheses its experiment has.
    """
    effect = math.log(plan.effect) if one.unit == "ratio" else plan.effect
    error, shared = plan.spread / math.sqrt(plan.n), math.hypot(plan.shared, one.resolution)
    seen, weights = _spreads(plan.n)
    halves = half_width(error * seen, plan.n, level(one, family), shared)
    found = _shares(one, effect, error, halves, 0)
    deserved = word_for(one, effect, effect)
    words = (deserved, "not supported") if deserved == "contradicted" else (deserved,)
    return max(float(found[word] @ weights) for word in words)


def chances(
    one: Hypothesis, effect: Interval, side: int = 0, n: int | None = None
) -> dict[str, float]:
    """Return how probable each word is in an independent build.

    What is not known is the mean, and the spread around it. Both are as probable as the data say if
    nothing else is known of them (a flat prior on the mean and on the logarithm of the spread), and
    the other build draws its own seeds from them. The test images are the same there.

    Parameters
    ----------
    one : Hypothesis
        What is on trial.
    effect : Interval
        What was measured; of a ratio, its logarithm.
    side : int
        As for `bn_tutorial.evidence.Verdict`.
    n : int, optional
        How many seeds the other build has; as many if nothing is said.
    """
    n = n or effect.n
    error = math.hypot(standard_error(effect.values), one.resolution / math.sqrt(3 * effect.n))
    (here, likely), (there, weights) = _spreads(effect.n), _spreads(n)
    # The standard errors, over n seeds, that may explain the one seen.
    true = error * math.sqrt(effect.n / n) / here[:, None]
    halves = half_width(true * there, n, effect.level, effect.shared)
    shares = _shares(one, effect.mean, math.sqrt(1 + n / effect.n) * true, halves, side)
    found = {word: float(likely @ share @ weights) for word, share in shares.items()}
    return {word: chance for word, chance in found.items() if chance > 1e-9}


def repeats(word: str, chances: Mapping[str, float]) -> float | None:
    """Return how probable a word is among the words of an independent build; None if unknown."""
    if not chances:
        return None
    also = chances.get(LEANING, 0.0) if word == "inconclusive" else 0.0
    return chances.get(word, 0.0) + also


def in_words(chance: float) -> str:
    """Return a probability as text, never as certainty."""
    return "over 99 %" if chance > 0.99 else f"{100 * chance:.0f} %"


def _shares(
    one: Hypothesis, mean: float, spread: Any, half: Any, side: int
) -> dict[str, npt.NDArray[np.float64]]:
    """Return how probable each word is if means scatter normally, around intervals of that width."""

    def below(bound: Any) -> Any:
        return special.ndtr((bound - one.direction * mean) / spread)

    bound = one.bound
    supported = 1 - below(bound + half) if side >= 0 else 0 * half
    contradicted = below(-abs(bound) - half) if side <= 0 else 0 * half
    unsupported = below(bound - half) - contradicted if side <= 0 else 0 * half
    rest = 1 - supported - contradicted - unsupported
    from_here = (
        np.maximum(bound - half, np.minimum(half, bound)) if side <= 0 else np.minimum(half, bound)
    )
    leaning = np.clip(1 - supported - below(from_here), 0, rest) if side >= 0 else 0 * half
    return {
        "supported": supported,
        "contradicted": contradicted,
        "not supported": np.maximum(unsupported, 0),
        LEANING: leaning,
        "inconclusive": rest - leaning,
    }


def _spreads(n: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ratios of a standard deviation seen to the true one, and how probable they are."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    at = (1 + nodes) / 2
    return np.sqrt(special.chdtri(n - 1, 1 - at) / (n - 1)), weights / 2
