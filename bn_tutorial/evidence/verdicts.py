"""What the data say of hypotheses and claims, by rules fixed beforehand."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import special

from bn_tutorial.evidence.intervals import (
    Interval,
    by_seed,
    difference,
    exponential,
    standard_error,
    write,
)
from bn_tutorial.evidence.registry import UNITS, Claim, Hypothesis, hypotheses

if TYPE_CHECKING:
    import pandas as pd

#: The level of a one-sided test: that at which a 95 % interval excludes a value.
LEVEL = 0.025


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the data say of a hypothesis.

    Parameters
    ----------
    hypothesis : Hypothesis
        The hypothesis.
    effect : Interval
        What was measured, in the hypothesis's unit; of a ratio the geometric mean. Without
        any value if nothing could be measured.
    word : str
        One of `WORDS`.
    reason : str
        Why it was not judged, or what Holm's correction changed.
    counted : str
        What the number of values counts: seeds, or for instance rounds of a measurement.
    """

    hypothesis: Hypothesis
    effect: Interval
    word: str
    reason: str = ""
    counted: str = "seed"

    @property
    def sentence(self) -> str:
        """The wording that was written beforehand for this verdict."""
        return self.hypothesis.wording[self.word]

    def __str__(self) -> str:
        tested = self.hypothesis
        factor = "a factor of " if tested.unit == "ratio" else ""
        spec = UNITS[tested.unit]
        beyond = "above" if tested.direction > 0 else "below"
        smallest = tested.direction * tested.bound
        bound = write(math.exp(smallest) if factor else smallest, spec)
        points = " percentage points" if tested.unit == "points" else ""
        rank = (
            " and Holm's correction upholds it" if tested.primary else " (secondary: not corrected)"
        )
        provisional = is_provisional(self.word, self.effect.n)
        verdict = f"{self.word}: {self.reason}" if self.reason else self.word
        lines = {
            "Claim": tested.statement,
            "Effect": tested.effect,
            "Rule": f"supported if its 95 % interval lies {beyond} {factor}{bound}{points}{rank}",
            "Measured": f"{factor}{self.effect:{spec}}" if self.effect.n else "nothing",
            "Verdict": verdict + (f", provisional (n = {self.effect.n})" if provisional else ""),
        }
        return "\n".join(
            textwrap.fill(line, 78, initial_indent=f"{name:10}", subsequent_indent=10 * " ")
            for name, line in lines.items()
        )


def is_provisional(word: str, n: int) -> bool:
    """Return whether a verdict rests on so few values that it should be called provisional."""
    return word != "not judged" and n <= 3


def judge(
    experiment: str,
    measured: Mapping[str, Mapping[str, Mapping[int, float] | pd.Series[float]]],
    *,
    sample: bool,
) -> dict[str, Verdict]:
    """Hold what was measured against an experiment's hypotheses, by the rule fixed beforehand.

    Seen in the claimed direction, a hypothesis is *supported* if its 95 % interval lies wholly
    above the smallest effect that matters, *contradicted* if it lies wholly beyond it the
    other way, *not supported* if it lies wholly below it otherwise, and else *inconclusive*.
    Of a primary hypothesis a word stands only if the step-down procedure of Holm (1979) upholds
    it at a family level of 5 %, two-sided, over all primary hypotheses of the experiment,
    measured or not. Whether the effect lies above or below the smallest is corrected as one
    question to each hypothesis, and whether it is contradicted as another.

    Parameters
    ----------
    experiment : str
        The experiment, as its file in ``hypotheses`` is called.
    measured : mapping
        ``measured[id][arm][seed]`` is a float; NaN if the run diverged. What a `pandas.Series` is
        indexed by, "seed" or for instance "round", is what the verdict's n counts.
    sample : bool
        Whether it was measured on the bundled sample, which never gives a verdict.

    Returns
    -------
    dict of str to Verdict
        One for each hypothesis of the experiment, in the order registered. What was not
        measured, or cannot be judged, is "not judged" for a reason.

    Raises
    ------
    ValueError
        If the experiment, a hypothesis or an arm is not registered.
    """
    everything = hypotheses().values()
    _check_names("experiment", [experiment], sorted({one.experiment for one in everything}))
    registered = {one.id: one for one in everything if one.experiment == experiment}
    _check_names(f"hypothesis of {experiment}", measured, registered)
    for name, arms in measured.items():
        _check_names(f"arm of {name}", arms, registered[name].arms)

    counted = {name: _counted(arms.values()) for name, arms in measured.items()}
    values = {
        name: {arm: by_seed(found) for arm, found in arms.items()}
        for name, arms in measured.items()
    }
    found = {name: _measure(one, values.get(name, {})) for name, one in registered.items()}
    p = np.array([_p_values(one, found[name][0]) for name, one in registered.items()])
    primary = [one.primary for one in registered.values()]
    corrected = p.copy()
    corrected[primary] = _corrected(p[primary])

    verdicts = {}
    for (name, one), plain, final in zip(registered.items(), p, corrected, strict=True):
        effect, reason = found[name]
        word = _word(final)
        if sample and effect.n:
            reason = "this is the bundled sample"
        if reason:
            word = "not judged"
        elif word != _word(plain):
            reason = f"{_word(plain)}, but not after Holm's correction"
        effect = exponential(effect) if one.unit == "ratio" else effect
        verdicts[name] = Verdict(one, effect, word, reason, counted.get(name, "seed"))
    return verdicts


def compose(claim: Claim, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the verdict on a claim, one of `WORDS`, from those on its parts.

    Parts that are not judged do not count. If one part is supported and another is not, or is
    contradicted, it *depends*. Otherwise the parts' word holds if more than half of them have
    it, where "contradicted" counts as "not supported" beside a part that is not supported; and
    if not, the claim is *inconclusive*.

    Parameters
    ----------
    claim : Claim
        The claim.
    parts : mapping of str to mapping
        Recorded verdicts, by the hypothesis's id; one that is missing is not judged.
    """
    words = [parts[name]["word"] for name in claim.parts if name in parts]
    judged = [word for word in words if word != "not judged"]
    decisive = [word for word in judged if word != "inconclusive"]
    if not judged:
        return "not judged"
    if "supported" in decisive and len(set(decisive)) > 1:
        return "depends"
    if 2 * len(decisive) <= len(judged):
        return "inconclusive"
    return decisive[0] if len(set(decisive)) == 1 else "not supported"


# How a hypothesis is judged


def _measure(one: Hypothesis, arms: Mapping[str, Mapping[int, float]]) -> tuple[Interval, str]:
    """Return the effect (of a ratio, its logarithm), and why it cannot be judged, if so."""
    nothing = Interval(math.nan, math.nan, math.nan, ())
    if not arms:
        return nothing, "it was not measured"
    for arm in one.arms:
        if not arms.get(arm):
            return nothing, f"the arm {arm!r} was not measured"
    measured = [arms[arm] for arm in one.arms]
    if any(set(values) != set(measured[0]) for values in measured):
        return nothing, "the arms were measured with different seeds"
    if one.unit == "ratio":
        if any(value <= 0 for values in measured for value in values.values()):
            return nothing, "a ratio needs values above zero"
        measured = [
            {seed: math.log(value) for seed, value in values.items()} for values in measured
        ]
    none = dict.fromkeys(measured[0], 0.0)
    effect = difference(*measured) if len(measured) == 2 else difference(none, *measured)
    if not math.isfinite(effect.mean):
        return effect, "a run diverged"
    return effect, "" if effect.n > 1 else "one seed gives no interval"


_DECISIVE = ("supported", "contradicted", "not supported")  # the order of columns of p


def _p_values(one: Hypothesis, effect: Interval) -> npt.NDArray[np.float64]:
    """Return one-sided p: above the smallest effect, beyond it the other way, below it."""
    if effect.n < 2 or not math.isfinite(effect.mean):
        return np.ones(3)
    mean, error = one.direction * effect.mean, standard_error(effect.values)
    gaps = np.array([mean - one.bound, -abs(one.bound) - mean, one.bound - mean])
    if error == 0:
        return np.where(gaps > 0, 0.0, 1.0)
    return np.asarray(special.stdtr(effect.n - 1, -gaps / error))


def _corrected(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Correct p, shape (hypotheses, 3), for the number of hypotheses."""
    # "contradicted" by itself: effects that are surely below the smallest one, rightly so, must
    # not lower the hurdle for those that seem to lie beyond it the other way
    above, opposite, below = p.T
    side = _holm(np.minimum(above, below))
    return np.column_stack([np.maximum(above, side), _holm(opposite), np.maximum(below, side)])


def _holm(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)


def _word(p: npt.NDArray[np.float64]) -> str:
    upheld = (word for word, value in zip(_DECISIVE, p, strict=True) if value < LEVEL)
    return next(upheld, "inconclusive")


def _counted(arms: Iterable[Any]) -> str:
    names = (getattr(getattr(arm, "index", None), "name", None) for arm in arms)
    return next((str(name) for name in names if name), "seed")


def _check_names(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}: registered are {', '.join(known)}.")
