"""What the data say of hypotheses and claims, by rules fixed beforehand."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bn_tutorial.evidence.chances import (
    CLOSE,
    LEANING,
    chances,
    in_words,
    level,
    repeats,
    word_for,
)
from bn_tutorial.evidence.intervals import (
    Interval,
    by_seed,
    difference,
    exponential,
    half_width,
    interval,
    standard_error,
    write,
)
from bn_tutorial.evidence.registry import UNITS, Claim, Hypothesis, hypotheses


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
        Why it was not judged.
    counted : str
        What the number of values counts: seeds, or for instance rounds of a measurement.
    side : int
        1 if the effect is at least what was measured, seen in the claimed direction; −1 if at most.
    """

    hypothesis: Hypothesis
    effect: Interval
    word: str
    reason: str = ""
    counted: str = "seed"
    side: int = 0

    @functools.cached_property
    def chances(self) -> dict[str, float]:
        """How probable each word is in an independent build with as many seeds.

        "leaning" is what `leans` says. Empty if there is no verdict, or if it does not count seeds.
        """
        if self.word in ("not judged", "estimated") or self.counted != "seed":
            return {}
        effect = self.effect
        if self.hypothesis.unit == "ratio":
            logs = [math.log(value) for value in effect.values]
            effect = interval(logs, effect.level, effect.shared)
        return chances(self.hypothesis, effect, self.side)

    @property
    def sentence(self) -> str:
        """The registered wording for this verdict."""
        return self.hypothesis.wording[self.word]

    @property
    def leans(self) -> bool:
        """Whether it is inconclusive, but on the claimed side.

        That is so if the mean is no smaller than the smallest effect, or if the interval lies wholly on
        the claimed side of none.
        """
        one, effect = self.hypothesis, self.effect
        if self.word != "inconclusive":
            return False
        none = 1.0 if one.unit == "ratio" else 0.0
        bound = math.exp(one.direction * one.bound) if none else one.direction * one.bound
        reached = one.direction * (effect.mean - bound) >= 0
        return bool(
            reached or min(one.direction * (end - none) for end in (effect.low, effect.high)) > 0
        )

    @property
    def repeats(self) -> float | None:
        """How probable it is that an independent build gives the same word; None without one."""
        return repeats(self.word, self.chances)

    def __str__(self) -> str:
        tested = self.hypothesis
        factor = "a factor of " if tested.unit == "ratio" else ""
        spec = UNITS[tested.unit]
        beyond = "above" if tested.direction > 0 else "below"
        smallest = tested.direction * tested.bound
        bound = write(math.exp(smallest) if factor else smallest, spec)
        points = " percentage points" if tested.unit == "points" else ""
        level = f"{100 * self.effect.level:.3g}"
        kind = "" if tested.primary else " (secondary)"
        rule = f"supported if its {level} % interval lies {beyond} {factor}{bound}{points}{kind}"
        provisional = is_provisional(self.word, self.effect.n)
        verdict = f"{self.word}: {self.reason}" if self.reason else self.word
        lines = {
            "Claim": tested.statement,
            "Effect": tested.effect,
            "Rule": "an estimate: no word is given" if tested.estimate else rule,
            "Measured": (
                f"{factor}{self.effect:{spec}} ({level} % interval, n = {self.effect.n})"
                if self.effect.n
                else "nothing"
            ),
            "Verdict": verdict + (f", provisional (n = {self.effect.n})" if provisional else ""),
        }
        if self.repeats is not None:
            close = " (a close call)" if self.repeats < CLOSE else ""
            lines["Repeats"] = f"with a probability of {in_words(self.repeats)}{close}"
        return "\n".join(
            textwrap.fill(line, 78, initial_indent=f"{name:10}", subsequent_indent=10 * " ")
            for name, line in lines.items()
        )


def is_provisional(word: str, n: int) -> bool:
    """Return whether a verdict rests on so few values that it should be called provisional."""
    return word not in ("not judged", "estimated") and n <= 3


def judge(
    experiment: str,
    measured: Mapping[str, Mapping[str, Any]],
    *,
    sample: bool,
    open_ended: Mapping[str, int] | None = None,
) -> dict[str, Verdict]:
    """Hold what was measured against an experiment's hypotheses, by the rule fixed beforehand.

    Seen in the claimed direction, a hypothesis is *supported* if its interval lies wholly
    above the smallest effect that matters, *contradicted* if it lies wholly beyond it the
    other way, *not supported* if it lies wholly below it otherwise, and else *inconclusive*.
    Of a secondary hypothesis it is the 95 % interval. Those of the k primary ones of an experiment,
    measured or not, have a level of 1 − 0.05 / k, so that all of them hold at once in 95 % of
    experiments, at least (Bonferroni). What one of them finds does not change another's word.

    Parameters
    ----------
    experiment : str
        The experiment, as its file in ``hypotheses`` is called.
    measured : mapping
        ``measured[id][arm]`` is a mapping of seed to float, a `pandas.Series`, or a
        `pandas.DataFrame` with a column for each part of the test images; NaN if the run diverged.
        Seeds that both arms have count. What its index is called, "seed" or for instance "round", is
        what the verdict's n counts.
    sample : bool
        Whether it was measured on the bundled sample, which never gives a verdict.
    open_ended : mapping of str to int, optional
        Hypotheses of whose effect only a bound is known: 1 if it is at least what was measured, seen
        in the claimed direction, −1 if it is at most that, 0 if it is as measured.

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
    _check_names(f"hypothesis of {experiment}", {**measured, **(open_ended or {})}, registered)
    for name, arms in measured.items():
        _check_names(f"arm of {name}", arms, registered[name].arms)
    family = sum(one.primary for one in registered.values())
    return {
        name: _verdict(one, measured.get(name, {}), family, sample, (open_ended or {}).get(name, 0))
        for name, one in registered.items()
    }


def compose(claim: Claim, parts: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the verdict on a claim, one of `WORDS`, from those on its parts.

    Parts that are not judged, or are estimates, do not count. If one part is supported and another
    is not, or is contradicted, it *depends*. Otherwise the parts' word holds if more than half of
    them have it, where "contradicted" counts as "not supported" beside a part that is not
    supported; and if not, the claim is *inconclusive*. It is that, too, if no part is supported but
    an inconclusive one leans to the claimed side (`Verdict.leans`).

    Parameters
    ----------
    claim : Claim
        The claim.
    parts : mapping of str to mapping
        Recorded verdicts, by the hypothesis's id; one that is missing is not judged.
    """
    found = [parts[name] for name in claim.parts if name in parts]
    return _composed([LEANING if part.get("leans") else part["word"] for part in found])


def claim_chances(claim: Claim, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return how probable each word on a claim is in an independent build.

    Parameters
    ----------
    claim, parts
        As for `compose`; the recorded ``chances`` of the parts are taken as independent.
    """
    found = [parts[name] for name in claim.parts if name in parts]
    every = [part.get("chances") or {part["word"]: 1.0} for part in found]
    chances: dict[str, float] = {}
    for states in itertools.product(*(one.items() for one in every)):
        probability = math.prod(chance for _, chance in states)
        word = _composed([state for state, _ in states])
        chances[word] = chances.get(word, 0.0) + probability
    return chances


def _composed(states: Sequence[str]) -> str:
    judged = [state for state in states if state not in ("not judged", "estimated")]
    decisive = [state for state in judged if state not in ("inconclusive", LEANING)]
    if not judged:
        return "not judged"
    if "supported" in decisive and len(set(decisive)) > 1:
        return "depends"
    if 2 * len(decisive) <= len(judged):
        return "inconclusive"
    if "supported" not in decisive and LEANING in judged:
        return "inconclusive"
    return decisive[0] if len(set(decisive)) == 1 else "not supported"


# How a hypothesis is judged


def _verdict(
    one: Hypothesis, arms: Mapping[str, Any], family: int, sample: bool, side: int
) -> Verdict:
    effect, reason = _measure(one, arms, level(one, family), side)
    if sample and effect.n:
        reason = "this is the bundled sample"
    word = "not judged"
    if not reason and one.estimate:
        word = "estimated"
    elif not reason:
        word = word_for(one, effect.low, effect.high)
    effect = exponential(effect) if one.unit == "ratio" else effect
    return Verdict(one, effect, word, reason, _counted(arms.values()), side)


def _measure(
    one: Hypothesis, arms: Mapping[str, Any], level: float, side: int
) -> tuple[Interval, str]:
    """Return the effect (of a ratio, its logarithm), and why it cannot be judged, if so."""
    nothing = Interval(math.nan, math.nan, math.nan, (), level)
    if not arms:
        return nothing, "it was not measured"
    for arm in one.arms:
        if arm not in arms or not len(arms[arm]):
            return nothing, f"the arm {arm!r} was not measured"
    shared = sorted(set.intersection(*({*by_seed(arms[arm])} for arm in one.arms)))
    if not shared:
        return nothing, "the arms have no seed in common"
    measured: list[Any] = [
        arm.loc[shared] if hasattr(arm, "loc") else {seed: arm[seed] for seed in shared}
        for arm in (arms[name] for name in one.arms)
    ]
    values = [*map(by_seed, measured)]
    if one.unit == "ratio":
        if any(getattr(arm, "ndim", 1) == 2 for arm in measured):
            raise ValueError(f"{one.id} is a ratio, which takes one value for each seed.")
        if any(value <= 0 for arm in values for value in arm.values()):
            return nothing, "a ratio needs values above zero"
        measured = [{seed: math.log(value) for seed, value in arm.items()} for arm in values]
    if len(measured) == 1:
        measured.insert(
            0, 0 * measured[0] if hasattr(measured[0], "ndim") else dict.fromkeys(measured[0], 0.0)
        )
    first, second = measured
    effect = difference(first, second, level)
    if not math.isfinite(effect.mean):
        return effect, "a run diverged, or did not get as far as is compared"
    if effect.n < 2:
        return effect, "one seed gives no interval"
    common = math.hypot(effect.shared, one.resolution)
    half = half_width(standard_error(effect.values), effect.n, level, common)
    low, high = effect.mean - half, effect.mean + half
    if side * one.direction > 0:
        high = math.inf
    elif side:
        low = -math.inf
    effect = dataclasses.replace(effect, low=low, high=high, shared=common)
    return effect, "" if half > 0 else "its values are all the same, so their spread is not known"


def _counted(arms: Iterable[Any]) -> str:
    names = (getattr(getattr(arm, "index", None), "name", None) for arm in arms)
    return next((str(name) for name in names if name), "seed")


def _check_names(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}: registered are {', '.join(known)}.")
