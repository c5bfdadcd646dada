"""What is on trial: hypotheses and claims, written down before the runs."""

from __future__ import annotations

import dataclasses
import functools
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, TypeVar

_Made = TypeVar("_Made")

#: The verdicts, as `judge` and `compose` give them, and the shape that tells each where colours
#: do not; only a claim "depends", and only what is registered as an estimate is "estimated".
SHAPES = {
    "supported": "▲",
    "not supported": "■",
    "contradicted": "▼",
    "depends": "◆",
    "inconclusive": "○",
    "estimated": "◇",
    "not judged": "–",
}
WORDS = tuple(SHAPES)

#: What each word says, in a line.
MEANINGS = {
    "supported": "the effect is as claimed, and large enough to matter",
    "not supported": "an effect as claimed that is large enough to matter is ruled out",
    "contradicted": "the effect goes the other way, far enough to matter",
    "depends": "of a claim's parts, some are supported and others are not",
    "inconclusive": "the runs do not decide; what was measured stands beside it",
    "estimated": "nothing was judged: the question was how large the effect is",
    "not judged": "it could not be judged in this build, for the reason given",
}

#: The words that a hypothesis can get: an estimate, and any other.
ESTIMATED = ("estimated", "not judged")
JUDGED = tuple(word for word in WORDS if word not in ("depends", "estimated"))
#: The words that a claim can get.
COMPOSED = tuple(word for word in WORDS if word != "estimated")

#: The units of effects, and how a value in them is written.
UNITS = {"points": "+.1pp", "ratio": ".3g", "number": ".3g"}

#: The smallest effect that matters, where a hypothesis does not say.
SMALLEST = {"points": 0.01, "ratio": 1.25}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How many seeds a hypothesis gets, and why: fixed on pilot seeds that are not used again.

    Parameters
    ----------
    effect : float
        The effect that the pilots let expect, in the hypothesis's unit.
    spread : float
        The standard deviation of a seed's effect; of a ratio, of its logarithm.
    n : int
        How many seeds (or whatever is counted).
    power : float
        The probability of the word that such an effect deserves (`bn_tutorial.evidence.power`); NaN
        for an estimate, which gets none.
    shared : float
        The standard error that the choice of test images adds, whatever n is.
    """

    effect: float
    spread: float
    n: int
    power: float = math.nan
    shared: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypothesis:
    """A testable statement of one experiment, written down before the runs.

    Parameters
    ----------
    id : str
        Its name, unlike that of any other hypothesis.
    experiment : str
        The experiment that tests it.
    statement : str
        What is on trial.
    effect : str
        The quantity that is measured, in words.
    arms : sequence of str
        What is compared, the reference first; or one name, for a quantity measured by itself.
    label : str
        What its effect is called in a figure of the experiment's effects; without one, it is not there.
    figure : int
        The number of the figure on its page that shows what it is about; 0 if none does.
    unit : str
        ``points``: the values are shares, the effect is a difference in percentage points.
        ``ratio``: the values are positive, the effect is second / first, taken as a
        difference of logarithms. ``number``: the effect is a difference.
    noun : str
        What a ratio is as large in, as in "twice as *long*", or a number a number of, where "high" and
        "higher" will not do.
    smallest : float
        The smallest effect that matters: a share (by default 0.01, one percentage point), a
        factor (1.25) or a number (no default). Below zero, or as a factor below one, it is
        how far the effect may go the other way: "not worse by more than that".
    direction : int
        +1 or −1: the sign of the effect if the hypothesis is right; −1 with ``ratio``
        means that the second is smaller.
    primary : bool
        Whether its interval is widened for the number of the experiment's primary hypotheses.
    estimate : bool
        Whether it asks for an effect and its interval only, and gets no verdict.
    resolution : float
        Half the distance between values that can be told apart, where an arm is found by halving; of
        a ratio, of its logarithm. It is added to the error.
    plan : Plan, optional
        How many seeds it gets, and why.
    wording : mapping of str to str
        For each word that it can get, the sentence that a page prints: an estimate is "estimated"
        or "not judged", any other has none for "depends" and "estimated".

    Raises
    ------
    ValueError
        If a field is not as described.
    """

    id: str
    experiment: str
    statement: str
    effect: str
    arms: Sequence[str]
    wording: Mapping[str, str]
    label: str = ""
    figure: int = 0
    unit: str = "points"
    noun: str = ""
    smallest: float = math.nan
    direction: int = 1
    primary: bool = True
    estimate: bool = False
    resolution: float = 0.0
    plan: Plan | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        arms = (self.arms,) if isinstance(self.arms, str) else tuple(self.arms)
        object.__setattr__(self, "arms", arms)
        if not 1 <= len(set(arms)) == len(arms) <= 2:
            raise ValueError(f"arms={list(arms)} must be one name, or two different ones.")
        if self.unit not in UNITS:
            raise ValueError(f"unit={self.unit!r} must be one of {', '.join(UNITS)}.")
        if math.isnan(self.smallest):
            object.__setattr__(self, "smallest", SMALLEST.get(self.unit, math.nan))
        if self.estimate:
            object.__setattr__(self, "smallest", 1.0 if self.unit == "ratio" else 0.0)
        if not math.isfinite(self.smallest) or (self.unit == "ratio" and self.smallest <= 0):
            raise ValueError(f"smallest={self.smallest} must be finite, and a ratio positive.")
        if self.direction not in (-1, 1):
            raise ValueError(f"direction={self.direction} must be 1 or -1.")
        if self.estimate:
            object.__setattr__(self, "primary", False)
        _check_wording(self.wording, ESTIMATED if self.estimate else JUDGED)

    @property
    def bound(self) -> float:
        """The smallest effect, as a difference (of logarithms, if it is a ratio)."""
        return math.log(self.smallest) if self.unit == "ratio" else self.smallest


@dataclasses.dataclass(frozen=True, kw_only=True)
class Claim:
    """What is commonly said of batch normalisation, and the hypotheses that it rests on here.

    Parameters
    ----------
    id : str
        Its name.
    number : int
        Its place in the student's notes.
    statement : str
        What is claimed.
    hypothesis : str
        What the literature predicts.
    literature : str
        What the literature measured; MyST text.
    sources : sequence of str
        Keys of ``docs/references.bib``.
    parts : sequence of str
        Ids of hypotheses; the table of claims draws the effect of the first.
    wording : mapping of str to str
        For each word but "estimated", the sentence that a page prints.

    Raises
    ------
    ValueError
        If there is no part, or a word without a sentence.
    """

    id: str
    number: int
    statement: str
    hypothesis: str
    literature: str
    sources: Sequence[str]
    parts: Sequence[str]
    wording: Mapping[str, str]

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "parts", tuple(self.parts))
        if not self.parts or len(set(self.parts)) < len(self.parts):
            raise ValueError(f"parts={list(self.parts)} must be one or more different ids.")
        _check_wording(self.wording, COMPOSED)


@functools.cache
def hypotheses() -> dict[str, Hypothesis]:
    """Return all hypotheses, by their id: those of ``hypotheses/<experiment>.toml``.

    Raises
    ------
    ValueError
        If a file does not describe hypotheses, or two have the same id.
    """
    return _hypotheses(resources.files("bn_tutorial.evidence").joinpath("hypotheses"))


@functools.cache
def claims() -> dict[str, Claim]:
    """Return the claims of ``claims.toml``, by their id.

    Raises
    ------
    ValueError
        If the file does not describe claims.
    """
    return _read(resources.files("bn_tutorial.evidence").joinpath("claims.toml"), Claim)


# How the files are read


def _hypotheses(folder: Traversable) -> dict[str, Hypothesis]:
    found: dict[str, Hypothesis] = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        experiment, _, kind = file.name.partition(".")
        if kind != "toml":
            continue
        registered = _read(file, functools.partial(_hypothesis, experiment))
        for twice in found.keys() & registered.keys():
            raise ValueError(f"{twice} is registered in {file.name} and elsewhere.")
        found |= registered
    return found


def _hypothesis(experiment: str, *, plan: Any = None, **fields: Any) -> Hypothesis:
    planned = Plan(**plan) if plan else None
    return Hypothesis(experiment=experiment, plan=planned, **fields)


def _read(file: Traversable, make: Callable[..., _Made]) -> dict[str, _Made]:
    """Return what each table of a file describes; an error names the table and the file."""
    found, where = {}, file.name
    try:
        for name, fields in tomllib.loads(file.read_text("utf-8")).items():
            where = f"{file.name}, [{name}]"
            found[name] = make(id=name, **fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    return found


def _check_wording(wording: Mapping[str, str], words: Iterable[str]) -> None:
    if set(wording) != set(words):
        raise ValueError(f"wording has {', '.join(wording)}: it must have {', '.join(words)}.")
