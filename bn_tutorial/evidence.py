"""From runs to what a page may say: effects, intervals, verdicts, recorded numbers."""

from __future__ import annotations

import dataclasses
import json
import math
import textwrap
import tomllib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from bn_tutorial import storage
from bn_tutorial.profiles import profile
from bn_tutorial.runs import Runs

#: The verdicts, as `judge` gives them.
WORDS = ("supported", "not supported", "contradicted", "inconclusive", "not judged")


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its 95 % confidence interval (Student's t).

    Parameters
    ----------
    mean, low, high : float
        In the unit of the values; `low` and `high` are NaN for fewer than two values, and
        all three are NaN if a value is.
    values : tuple of float
        What was averaged, one value per seed.
    """

    mean: float
    low: float
    high: float
    values: tuple[float, ...]

    @property
    def n(self) -> int:
        """How many values were averaged."""
        return len(self.values)

    def __format__(self, spec: str) -> str:
        """Format mean and interval; ``pp`` in the spec means percentage points."""
        mean, low, high = (_format(value, spec) for value in (self.mean, self.low, self.high))
        unit = "percentage points " if spec.endswith("pp") else ""
        return f"{mean} {unit}(95 % interval {low} to {high}, n = {self.n})"


def interval(values: Iterable[float]) -> Interval:
    """Return the mean of independent values and its 95 % interval.

    Parameters
    ----------
    values : iterable of float
        One value per seed.

    Raises
    ------
    ValueError
        If there is no value.
    """
    values = tuple(float(value) for value in values)
    if not values:
        raise ValueError("an interval needs at least one value.")
    mean = float(np.mean(values))
    if len(values) < 2 or not math.isfinite(mean):
        return Interval(mean, math.nan, math.nan, values)
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values))
    return Interval(mean, float(mean - half), float(mean + half), values)


def difference(
    first: Mapping[int, float], second: Mapping[int, float], *, min_seeds: int = 1
) -> Interval:
    """Return the mean of second − first, paired by seed.

    Parameters
    ----------
    first, second : mapping of seed to float
        For instance from `Runs.final`.
    min_seeds : int
        How many seeds both must share.

    Raises
    ------
    ValueError
        If the seeds are not the same, or too few.
    """
    if set(first) != set(second) or len(first) < min_seeds:
        raise ValueError(
            f"a paired difference needs the same seeds on both sides, at least {min_seeds}: "
            f"not {sorted(first)} and {sorted(second)}."
        )
    return interval(second[seed] - first[seed] for seed in sorted(first))


def roughness(runs: Runs, metric: str) -> dict[int, float]:
    """Return, for each seed, the mean absolute change of a metric from epoch to epoch."""
    changes = np.abs(np.diff(runs.curves(metric), axis=1))
    return {run.seed: float(np.mean(row)) for run, row in zip(runs, changes, strict=True)}


@dataclasses.dataclass(frozen=True)
class Claim:
    """A statement on trial, written down before the runs.

    Parameters
    ----------
    id : str
        Its name in ``claims.toml``.
    statement : str
        What is claimed.
    effect : str
        The quantity that is measured, in words.
    direction : int
        +1 or −1: the sign that the effect has if the claim is right.
    smallest : float
        The smallest effect that would matter, in the effect's unit.
    wording : mapping of str to str
        For each of `WORDS`, the sentence that a page prints.
    """

    id: str
    statement: str
    effect: str
    direction: int
    smallest: float
    wording: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the data say of a claim.

    Parameters
    ----------
    claim : Claim
        The claim.
    effect : Interval
        What was measured.
    word : str
        One of `WORDS`.
    reason : str
        Why it was not judged, if it was not.
    """

    claim: Claim
    effect: Interval
    word: str
    reason: str = ""

    @property
    def sentence(self) -> str:
        """The wording that was written beforehand for this verdict."""
        return self.claim.wording[self.word]

    def __str__(self) -> str:
        beyond = "above" if self.claim.direction > 0 else "below"
        bound = _format(self.claim.direction * self.claim.smallest, "+.1pp")
        provisional = self.word != "not judged" and self.effect.n <= 3
        verdict = f"{self.word}: {self.reason}" if self.reason else self.word
        lines = {
            "Claim": self.claim.statement,
            "Effect": self.claim.effect,
            "Rule": f"supported if its 95 % interval lies {beyond} {bound} percentage points",
            "Measured": f"{self.effect:+.1pp}",
            "Verdict": verdict + (f", provisional (n = {self.effect.n})" if provisional else ""),
        }
        return "\n".join(
            textwrap.fill(line, 78, initial_indent=f"{name:10}", subsequent_indent=10 * " ")
            for name, line in lines.items()
        )


def claims() -> dict[str, Claim]:
    """Return the pre-registered claims of ``claims.toml``, by their id."""
    text = resources.files("bn_tutorial").joinpath("claims.toml").read_text("utf-8")
    return {
        name: Claim(name, **{"smallest": 0.01, "direction": 1, **fields})
        for name, fields in tomllib.loads(text).items()
    }


def judge(claim: str | Claim, effect: Interval, *, sample: bool) -> Verdict:
    """Hold a measured effect against a claim, by the rule fixed beforehand.

    Seen in the claimed direction, the claim is *supported* if the interval lies wholly beyond
    the smallest effect that matters, *contradicted* if it lies wholly beyond it the other way,
    *not supported* if it lies wholly below it otherwise, and else *inconclusive*.

    Parameters
    ----------
    claim : str or Claim
        The claim or its id.
    effect : Interval
        What was measured.
    sample : bool
        Whether it was measured on the bundled sample, which never gives a verdict.

    Raises
    ------
    ValueError
        If there is no claim of that id.
    """
    if isinstance(claim, str):
        known = claims()
        if claim not in known:
            raise ValueError(f"there is no claim {claim!r}: claims.toml has {', '.join(known)}.")
        claim = known[claim]
    if sample:
        return Verdict(claim, effect, "not judged", "this is the bundled sample")
    if not math.isfinite(effect.mean):
        return Verdict(claim, effect, "not judged", "a run diverged")
    if effect.n < 2:
        return Verdict(claim, effect, "not judged", "one seed gives no interval")
    low, high = sorted((claim.direction * effect.low, claim.direction * effect.high))
    if low > claim.smallest:
        word = "supported"
    elif high < -claim.smallest:
        word = "contradicted"
    elif high < claim.smallest:
        word = "not supported"
    else:
        word = "inconclusive"
    return Verdict(claim, effect, word)


def record(group: str, **values: object) -> None:
    """Store what a page may quote, in place of what was stored for that group before.

    Parameters
    ----------
    group : str
        Usually the script's subject, for instance ``"batch-norm"``.
    **values : float, int, str, Interval or Verdict
        By name.

    Raises
    ------
    TypeError
        If a value is of another type.
    StorageError
        If the storage folder cannot be written.
    """
    content = json.dumps({name: _pack(value) for name, value in values.items()}, indent=1).encode()
    path = evidence_path(group)
    if not path.exists() or path.read_bytes() != content:  # an unchanged file makes no page stale
        storage.write(path, lambda file: file.write(content))


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
        found = Interval(**{name: found[name] for name in ("mean", "low", "high", "values")})
        return format(found, spec)
    return _format(found, spec)


def evidence_path(group: str) -> Path:
    """Return the file that holds a group's recorded values under the current profile."""
    return storage.home() / "evidence" / profile().name / f"{group}.json"


def _pack(value: object) -> object:
    match value:
        case Verdict():
            return {
                "claim": value.claim.id,
                "word": value.word,
                "reason": value.reason,
                "sentence": value.sentence,
                "effect": _pack(value.effect),
            }
        case Interval():
            return {**dataclasses.asdict(value), "n": value.n}
        case str() | int() | float():
            return value
    raise TypeError(f"evidence is a number, a text, an interval or a verdict, not {value!r}.")


def _format(value: Any, spec: str) -> str:
    if spec.endswith("pp"):
        return format(100 * value, spec.removesuffix("pp") + "f").replace("-", "−")
    return format(value, spec)
