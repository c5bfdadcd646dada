"""From runs to what a page may say: effects, intervals, verdicts, recorded numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from bn_tutorial import settings
from bn_tutorial.evidence.registry import UNITS, Claim, Hypothesis, hypotheses
from bn_tutorial.settings import profile
from bn_tutorial.training.runs import Runs

#: The level of a one-sided test: that at which a 95 % interval excludes a value.
LEVEL = 0.025


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
        mean, low, high = (_format(value, spec) for value in (self.mean, self.low, self.high))
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
    half = float(special.stdtrit(len(values) - 1, (1 + level) / 2)) * _standard_error(values)
    return Interval(mean, mean - half, mean + half, values, level)


def difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """Return the mean of second − first, paired by seed.

    Parameters
    ----------
    first, second : mapping of seed to float
        For instance from `Runs.final`.

    Raises
    ------
    ValueError
        If the seeds are not the same, or there is none.
    """
    if set(first) != set(second):
        raise ValueError(
            "a paired difference needs the same seeds on both sides: "
            f"not {sorted(first)} and {sorted(second)}."
        )
    return interval(second[seed] - first[seed] for seed in sorted(first))


def roughness(runs: Runs, metric: str) -> dict[int, float]:
    """Return, for each seed, the mean absolute change of a metric from epoch to epoch."""
    changes = np.abs(np.diff(runs.curves(metric), axis=1))
    return {run.seed: float(np.mean(row)) for run, row in zip(runs, changes, strict=True)}


# Verdicts


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
    """

    hypothesis: Hypothesis
    effect: Interval
    word: str
    reason: str = ""

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
        bound = _format(math.exp(smallest) if factor else smallest, spec)
        points = " percentage points" if tested.unit == "points" else ""
        rank = (
            " and Holm's correction upholds it" if tested.primary else " (secondary: not corrected)"
        )
        provisional = self.word != "not judged" and self.effect.n <= 3
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


def judge(
    experiment: str,
    measured: Mapping[str, Mapping[str, Mapping[int, float]]],
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
        ``measured[id][arm][seed]`` is a float; NaN if the run diverged.
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

    found = {name: _measure(one, measured.get(name, {})) for name, one in registered.items()}
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
        effect = _exponential(effect) if one.unit == "ratio" else effect
        verdicts[name] = Verdict(one, effect, word, reason)
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


# Records


def record(
    group: str,
    verdicts: Mapping[str, object] | None = None,
    /,
    *,
    runs: Runs | None = None,
    **values: object,
) -> None:
    """Store what a page may quote, in place of what was stored for that group before.

    Parameters
    ----------
    group : str
        Usually the experiment, for instance ``"batch-norm"``.
    verdicts : mapping of str to Verdict, optional
        What `judge` returned; each is stored under its id.
    runs : Runs, optional
        What was measured; the profile, the device, the versions and the data are stored as
        ``provenance``.
    **values : float, int, str, Interval, Verdict, or dict of these
        By name.

    Raises
    ------
    TypeError
        If a value is of another type.
    StorageError
        If the storage folder cannot be written.
    """
    values = {**(verdicts or {}), **values}
    if runs:
        made = next(iter(runs)).provenance
        known = {name: made[name] for name in ("device", "versions", "data")}
        values["provenance"] = {"profile": profile().name, **known}
    content = json.dumps(_pack(values), indent=1).encode()
    path = evidence_path(group)
    if not path.exists() or path.read_bytes() != content:  # an unchanged file makes no page stale
        settings.write(path, lambda file: file.write(content))


def recall(name: str) -> Any:
    """Return a recorded value.

    Parameters
    ----------
    name : str
        ``group.value``, or ``group.value.part`` for a part of an interval or a verdict
        (``mean``, ``low``, ``high``, ``n``, ``word``, ``sentence``, ``effect``).

    Raises
    ------
    KeyError
        If nothing of that name is recorded under the current profile.
    """
    group, *parts = name.split(".")
    try:
        found: Any = json.loads(evidence_path(group).read_text("utf-8"))
        for part in parts:
            found = found[part]
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError) as error:
        raise KeyError(f"no evidence is recorded as {name!r}") from error
    return found


def quote(name: str, spec: str = "") -> str:
    """Return a recorded value as text.

    Parameters
    ----------
    name : str
        As for `recall`.
    spec : str
        As for `format`; ``.1pp`` gives percentage points of a share.

    Raises
    ------
    KeyError
        If nothing of that name is recorded.
    ValueError
        If the value cannot be written in that way.
    """
    found = recall(name)
    if isinstance(found, dict) and "word" in found:
        found = found["effect"] if spec else found["word"]
    if isinstance(found, dict):
        found = Interval(**{name: part for name, part in found.items() if name != "n"})
        return format(found, spec)
    return _format(found, spec)


def evidence_path(group: str) -> Path:
    """Return the file that holds a group's recorded values under the current profile."""
    return settings.home() / "evidence" / profile().name / f"{group}.json"


def _pack(value: object) -> object:
    match value:
        case Verdict():
            return {
                "hypothesis": value.hypothesis.id,
                "unit": value.hypothesis.unit,
                "arms": value.hypothesis.arms,
                "word": value.word,
                "reason": value.reason,
                "sentence": value.sentence,
                "effect": _pack(value.effect),
                "n": value.effect.n,
            }
        case Interval():
            return {**dataclasses.asdict(value), "n": value.n}
        case dict():
            return {name: _pack(part) for name, part in value.items()}
        case str() | int() | float():
            return value
    raise TypeError(
        f"evidence is a number, a text, an interval or a verdict (or a dict of these), not {value!r}."
    )


def _format(value: Any, spec: str) -> str:
    if spec.endswith("pp"):
        value, spec = 100 * value, spec.removesuffix("pp") + "f"
    text = format(value, spec)
    if not isinstance(value, float):
        return text
    size = text.lstrip("+-")
    if not size.strip("0.%"):
        return size  # what is rounded to zero has no sign
    return f"−{size}" if text.startswith("-") else text


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
    mean, error = one.direction * effect.mean, _standard_error(effect.values)
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


def _standard_error(values: tuple[float, ...]) -> float:
    n, mean = len(values), math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)


def _exponential(effect: Interval) -> Interval:
    with np.errstate(over="ignore"):  # two seeds can give an interval without a finite end
        mean, low, high, *values = map(
            float, np.exp([effect.mean, effect.low, effect.high, *effect.values])
        )
    return Interval(mean, low, high, tuple(values), effect.level)


def _check_names(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"there is no {kind} {name!r}: registered are {', '.join(known)}.")
