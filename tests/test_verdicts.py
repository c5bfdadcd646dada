from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from bn_tutorial.evidence import (
    Verdict,
    chances,
    compose,
    interval,
    is_provisional,
    judge,
    power,
    quote,
    recall,
    record,
    verdicts,
)
from bn_tutorial.evidence.intervals import half_width
from bn_tutorial.evidence.registry import COMPOSED, ESTIMATED, JUDGED, Claim, Hypothesis, Plan

NAN = math.nan
HIGHER = Hypothesis(
    id="higher",
    experiment="trial",
    statement="It is higher.",
    effect="height",
    arms=["without", "batch"],
    wording={word: f"So: {word}." for word in JUDGED},
)
LOWER = dataclasses.replace(HIGHER, id="lower", direction=-1)
RATIO = dataclasses.replace(HIGHER, id="ratio", unit="ratio", smallest=1.25)
ALONE = dataclasses.replace(HIGHER, id="alone", unit="number", smallest=3.0, arms="batch")
SECONDARY = dataclasses.replace(HIGHER, id="secondary", primary=False)

Register = Callable[..., None]
Values = dict[int, float]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Return a function that puts hypotheses in place of those that are registered."""

    def put(*on_trial: Hypothesis) -> None:
        monkeypatch.setattr(verdicts, "hypotheses", lambda: {one.id: one for one in on_trial})

    return put


def seeds(*values: float) -> Values:
    return dict(enumerate(values))


def verdict_on(one: Hypothesis, *arms: Values, sample: bool = False) -> Verdict:
    """Judge one registered hypothesis by its arms."""
    measured = {one.id: dict(zip(one.arms, arms, strict=True))}
    return judge(one.experiment, measured, sample=sample)[one.id]


def spanning(low: float, high: float) -> Values:
    """Return the values of three seeds whose 95 % interval has these ends."""
    half = (high - low) / 2 / stats.t.ppf(0.975, 2) * math.sqrt(3)
    return seeds(*((low + high) / 2 + np.array([-half, 0, half])))


# Verdicts

TINY = 1e-12
BOUNDARIES = [
    (0.01 + TINY, 0.5, "supported"),
    (0.01 - TINY, 0.5, "inconclusive"),
    (0.005, 0.015, "inconclusive"),
    (-0.5, 0.5, "inconclusive"),
    (-0.5, 0.01 + TINY, "inconclusive"),
    (-0.5, 0.01 - TINY, "not supported"),
    (0.001, 0.009, "not supported"),
    (-0.009, 0.009, "not supported"),
    (-0.5, -0.01 + TINY, "not supported"),
    (-0.5, -0.01 - TINY, "contradicted"),
]


@pytest.mark.parametrize(("low", "high", "word"), BOUNDARIES)
@pytest.mark.parametrize("primary", [True, False])
def test_a_verdict_follows_from_the_ends_of_the_interval(
    register: Register, low: float, high: float, word: str, primary: bool
) -> None:
    alone = dataclasses.replace(HIGHER, arms="batch", primary=primary)
    register(alone)
    verdict = verdict_on(alone, spanning(low, high))
    assert (verdict.word, verdict.reason) == (word, "")
    assert verdict.sentence == f"So: {word}."
    assert (verdict.effect.low, verdict.effect.high) == pytest.approx((low, high))
    lower = dataclasses.replace(alone, direction=-1)
    register(lower)
    assert verdict_on(lower, spanning(-high, -low)).word == word


def test_an_effect_is_second_minus_first_paired_by_seed(register: Register) -> None:
    register(HIGHER)
    first, second = {3: 0.1, 1: 0.5, 2: 0.9}, {1: 0.6, 2: 1.1, 3: 0.3}
    verdict = verdict_on(HIGHER, first, second)
    assert verdict.effect.values == pytest.approx((0.1, 0.2, 0.2))
    swapped = judge("trial", {"higher": {"batch": second, "without": first}}, sample=False)
    assert swapped == {"higher": verdict}
    assert verdict_on(HIGHER, second, first).effect.mean == pytest.approx(-verdict.effect.mean)


def test_a_ratio_is_a_difference_of_logarithms(register: Register) -> None:
    register(RATIO)
    effect = verdict_on(RATIO, seeds(1, 2, 4), seeds(1, 4, 16)).effect
    assert effect.values == pytest.approx((1, 2, 4))
    assert effect.mean == pytest.approx(2)
    logs = interval(np.log([1, 2, 4]))
    assert (effect.low, effect.high) == pytest.approx((math.exp(logs.low), math.exp(logs.high)))
    assert effect.n == 3


@pytest.mark.parametrize(
    ("values", "direction", "word"),
    [
        ((1.30, 1.31, 1.32), 1, "supported"),
        ((1.20, 1.21, 1.22), 1, "not supported"),
        ((1.10, 1.25, 1.40), 1, "inconclusive"),
        ((0.82, 0.83, 0.84), 1, "not supported"),
        ((0.76, 0.77, 0.78), 1, "contradicted"),
        ((0.76, 0.77, 0.78), -1, "supported"),
        ((0.82, 0.83, 0.84), -1, "not supported"),
        ((1.30, 1.31, 1.32), -1, "contradicted"),
    ],
)
def test_a_ratio_is_held_against_a_factor(
    register: Register, values: tuple[float, ...], direction: int, word: str
) -> None:
    one = dataclasses.replace(RATIO, direction=direction)
    register(one)
    assert verdict_on(one, seeds(2, 2, 2), seeds(*(2 * value for value in values))).word == word


def test_a_ratio_of_two_seeds_may_have_an_interval_without_end(register: Register) -> None:
    register(RATIO)
    effect = verdict_on(RATIO, seeds(1, 1), seeds(1e-200, 1)).effect
    assert effect.mean == pytest.approx(1e-100)
    assert (effect.low, effect.high) == (0, math.inf)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.009, 0.001, "supported"),
        (0.02, 0.03, "supported"),
        (-0.02, 0.03, "inconclusive"),
        (-0.03, -0.011, "contradicted"),
    ],
)
def test_a_negative_smallest_effect_means_not_worse_by_more(
    register: Register, low: float, high: float, word: str
) -> None:
    for direction, values in ((1, spanning(low, high)), (-1, spanning(-high, -low))):
        one = dataclasses.replace(HIGHER, arms="batch", smallest=-0.01, direction=direction)
        register(one)
        verdict = verdict_on(one, values)
        assert verdict.word == word
        bound = "above −1.0" if direction > 0 else "below +1.0"
        assert f"interval lies {bound} percentage points" in " ".join(str(verdict).split())
    one = dataclasses.replace(RATIO, smallest=0.8)
    register(one)
    assert verdict_on(one, seeds(1, 1, 1), seeds(0.9, 0.91, 0.92)).word == "supported"


@pytest.mark.parametrize("one", [HIGHER, RATIO, ALONE], ids=lambda one: one.id)
def test_values_without_spread_are_not_judged(register: Register, one: Hypothesis) -> None:
    register(one)
    verdict = verdict_on(one, *[seeds(7, 7, 7), seeds(9, 9, 9)][: len(one.arms)])
    assert verdict.word == "not judged"
    assert verdict.reason == "its values are all the same, so their spread is not known"


@pytest.mark.parametrize(
    ("resolution", "word"), [(0.01, "supported"), (0.2, "supported"), (0.4, "inconclusive")]
)
def test_values_found_by_halving_are_uncertain_by_their_resolution(
    register: Register, resolution: float, word: str
) -> None:
    one = dataclasses.replace(RATIO, resolution=resolution)
    register(one)
    verdict = verdict_on(one, seeds(1, 1, 1), seeds(2, 2, 2))
    assert verdict.word == word
    assert math.log(verdict.effect.high / verdict.effect.low) == pytest.approx(
        2 * stats.t.ppf(0.975, 19) * resolution  # the freedom of what is shared
    )


@pytest.mark.parametrize(
    ("direction", "side", "value", "word", "ends"),
    [
        (1, 1, 2.0, "supported", "high"),
        (1, 1, 1.2, "inconclusive", "high"),
        (1, -1, 1.2, "not supported", "low"),
        (1, -1, 2.0, "inconclusive", "low"),
        (-1, 1, 0.5, "supported", "low"),
        (-1, -1, 0.9, "not supported", "high"),
    ],
)
def test_an_effect_of_which_only_a_bound_is_known(
    register: Register, direction: int, side: int, value: float, word: str, ends: str
) -> None:
    one = dataclasses.replace(RATIO, direction=direction)
    register(one)
    arms = {"without": seeds(1, 1, 1), "batch": seeds(*value * np.array([0.99, 1, 1.01]))}
    found = judge("trial", {"ratio": arms}, sample=False, open_ended={"ratio": side})["ratio"]
    assert found.word == word
    assert getattr(found.effect, ends) == (math.inf if ends == "high" else 0)
    assert found.repeats == pytest.approx(0.75, abs=0.25)


ONE = seeds(1, 2, 3)


@pytest.mark.parametrize(
    ("one", "arms", "reason"),
    [
        (HIGHER, {"without": ONE, "batch": seeds(NAN, 2, 3)}, "as far as is compared"),
        (HIGHER, {"without": seeds(1, 2, math.inf), "batch": ONE}, "as far as is compared"),
        (HIGHER, {"without": seeds(1), "batch": seeds(NAN)}, "as far as is compared"),
        (HIGHER, {"without": seeds(1), "batch": seeds(2)}, "one seed gives no interval"),
        (HIGHER, {"without": ONE}, "the arm 'batch' was not measured"),
        (HIGHER, {"batch": ONE}, "the arm 'without' was not measured"),
        (HIGHER, {"without": ONE, "batch": {}}, "the arm 'batch' was not measured"),
        (HIGHER, {}, "it was not measured"),
        (HIGHER, {"without": ONE, "batch": {7: 1.0, 8: 2.0, 9: 3.0}}, "no seed in common"),
        (RATIO, {"without": ONE, "batch": seeds(1, 2, 0)}, "a ratio needs values above zero"),
        (RATIO, {"without": seeds(1, -2, 3), "batch": ONE}, "a ratio needs values above zero"),
        (RATIO, {"without": ONE, "batch": seeds(NAN, 2, 3)}, "as far as is compared"),
        (RATIO, {"without": ONE, "batch": seeds(math.inf, 2, 3)}, "as far as is compared"),
        (ALONE, {"batch": seeds(5, NAN)}, "as far as is compared"),
        (ALONE, {"batch": seeds(5)}, "one seed gives no interval"),
    ],
)
def test_what_is_not_judged(
    register: Register, one: Hypothesis, arms: dict[str, Values], reason: str
) -> None:
    register(one)
    verdict = judge("trial", {one.id: arms}, sample=False)[one.id]
    assert verdict.word == "not judged"
    assert verdict.reason.endswith(reason)
    assert str(verdict).endswith(f"Verdict   not judged: {verdict.reason}")
    assert verdict.sentence == "So: not judged."
    record("trial", {one.id: verdict})
    assert recall(f"trial.{one.id}.word") == "not judged"


def test_seeds_that_both_arms_have_count(register: Register) -> None:
    register(HIGHER)
    more = {0: 9.0, 1: 3.0, 2: 4.0, 3: 5.0}
    found = judge("trial", {HIGHER.id: {"without": ONE, "batch": more}}, sample=False)[HIGHER.id]
    shared = {"without": ONE, "batch": {seed: more[seed] for seed in ONE}}
    assert found.effect == judge("trial", {HIGHER.id: shared}, sample=False)[HIGHER.id].effect
    assert found.effect.n == 3


def test_the_sample_gives_no_verdict(register: Register) -> None:
    register(HIGHER, LOWER, RATIO, ALONE)
    arms = {"without": ONE, "batch": seeds(2, 3.5, 4)}
    measured = {"higher": arms, "ratio": {**arms, "batch": seeds(NAN, 1, 1)}, "alone": {}}
    found = judge("trial", measured, sample=True)
    assert {verdict.word for verdict in found.values()} == {"not judged"}
    assert [verdict.reason for verdict in found.values()] == [
        "this is the bundled sample",
        "it was not measured",
        "this is the bundled sample",
        "it was not measured",
    ]
    assert found["higher"].effect == judge("trial", measured, sample=False)["higher"].effect


def test_every_hypothesis_of_the_experiment_has_a_verdict_in_the_order_registered(
    register: Register,
) -> None:
    other = dataclasses.replace(HIGHER, id="other", experiment="elsewhere")
    register(LOWER, other, HIGHER, RATIO)
    same = {"batch": spanning(-0.004, 0.004), "without": seeds(0, 0, 0)}
    found = judge("trial", {"higher": same}, sample=False)
    assert list(found) == ["lower", "higher", "ratio"]
    assert [verdict.hypothesis.id for verdict in found.values()] == list(found)
    assert found["higher"].word == "not supported"
    assert found["lower"].reason == found["ratio"].reason == "it was not measured"
    assert "Measured  nothing" in str(found["ratio"])
    assert found["ratio"].effect.n == 0


@pytest.mark.parametrize(
    ("experiment", "measured", "error"),
    [
        ("trails", {}, r"no experiment 'trails': registered are elsewhere, trial\.$"),
        ("trial", {"h": {}}, r"no hypothesis of trial 'h': registered are higher, lower\.$"),
        ("trial", {"other": {}}, r"no hypothesis of trial 'other'"),
        ("trial", {"higher": {"bn": ONE}}, r"no arm of higher 'bn': .* are without, batch\.$"),
    ],
)
def test_what_is_not_registered_is_refused(
    register: Register, experiment: str, measured: dict[str, Any], error: str
) -> None:
    register(HIGHER, LOWER, dataclasses.replace(HIGHER, id="other", experiment="elsewhere"))
    with pytest.raises(ValueError, match=error):
        judge(experiment, measured, sample=False)


def test_a_verdict_as_text(register: Register) -> None:
    alone = dataclasses.replace(HIGHER, arms="batch")
    register(alone)
    text = str(verdict_on(alone, spanning(0.02, 0.04)))
    assert max(map(len, text.splitlines())) <= 78
    assert text.startswith("Claim     It is higher.\nEffect    height\n")
    words = " ".join(text.split())
    rule = "Rule supported if its 95 % interval lies above +1.0 percentage points"
    assert rule in words
    assert "+3.0 points [+2.0 to +4.0] (95 % interval, n = 3)" in words
    assert "Verdict supported, provisional (n = 3) Repeats with a probability of" in words
    secondary = dataclasses.replace(alone, direction=-1, primary=False)
    register(secondary)
    words = " ".join(str(verdict_on(secondary, seeds(-0.03, -0.02, -0.03, -0.02))).split())
    assert "lies below −1.0 percentage points (secondary)" in words
    assert "Verdict supported Repeats with a probability of" in words  # n = 4


def test_a_verdict_as_text_in_other_units(register: Register) -> None:
    register(RATIO, ALONE)
    measured = {
        "ratio": {"without": seeds(1, 1, 1), "batch": seeds(2, 2, 2.01)},
        "alone": {"batch": seeds(5, 5, 5.01)},
    }
    found = judge("trial", measured, sample=False)
    words = " ".join(str(found["ratio"]).split())
    assert "97.5 % interval lies above a factor of 1.25 Measured" in words
    assert "Measured a factor of 2 [1.98 to 2.02] (97.5 % interval, n = 3)" in words
    words = " ".join(str(found["alone"]).split())
    assert "interval lies above 3 Measured" in words
    assert "Measured 5 [4.98 to 5.02] (97.5 % interval, n = 3)" in words
    smaller = dataclasses.replace(RATIO, direction=-1)
    register(smaller)
    text = str(verdict_on(smaller, seeds(1, 1), seeds(2, 2.1)))
    assert "lies below a factor of 0.8" in " ".join(text.split())


# Families, images, chances


def scattered(p: float, smallest: float = 0.01) -> Values:
    """Return three seeds whose one-sided p against the smallest effect is `p`."""
    noise = np.array([-1, 0, 1]) * 0.001
    return seeds(*(smallest - stats.t.ppf(p, 2) * 0.001 / math.sqrt(3) + noise))


def family_of(size: int) -> list[Hypothesis]:
    return [dataclasses.replace(HIGHER, id=f"h{row}", arms="batch") for row in range(size)]


@pytest.mark.parametrize(("size", "least"), [(1, 0.025), (2, 0.0125), (5, 0.005)])
def test_the_intervals_of_primary_hypotheses_hold_together(
    register: Register, size: int, least: float
) -> None:
    secondary = dataclasses.replace(SECONDARY, arms="batch")
    register(*family_of(size), secondary)
    for p, word in ((0.9 * least, "supported"), (1.1 * least, "inconclusive")):
        measured = {"h0": {"batch": scattered(p)}, "secondary": {"batch": scattered(0.02)}}
        found = judge("trial", measured, sample=False)
        assert found["h0"].word == word
        assert found["h0"].effect.level == pytest.approx(1 - 2 * least)
        assert (found["secondary"].word, found["secondary"].effect.level) == ("supported", 0.95)


def test_what_one_hypothesis_finds_does_not_change_the_word_of_another(register: Register) -> None:
    register(*family_of(3))
    words = set()
    for p in (0.001, 0.02, 0.5, 0.999):
        others = {name: {"batch": scattered(p)} for name in ("h1", "h2")}
        found = judge("trial", {"h0": {"batch": scattered(0.0083)}, **others}, sample=False)
        words.add((found["h0"].word, found["h0"].effect))
    assert len(words) == 1


def by_part(values: npt.NDArray[np.float64], name: str = "seed") -> pd.DataFrame:
    """Return values, shape (seeds, parts), as an experiment measures them."""
    return pd.DataFrame(values, pd.Index(range(len(values)), name=name))


def test_the_choice_of_test_images_widens_the_interval(register: Register) -> None:
    register(HIGHER)
    seeds_, parts = np.array([[-1], [0], [1.0]]), np.linspace(-1, 1, 20)
    arms = {
        "without": by_part(np.zeros((3, 20))),
        "batch": by_part(0.03 + 0.001 * seeds_ + 0.02 * parts),
    }
    effect = judge("trial", {"higher": arms}, sample=False)["higher"].effect
    assert effect.values == pytest.approx((0.029, 0.03, 0.031))
    own, shared = 0.001 / math.sqrt(3), 0.02 * parts.std(ddof=1) / math.sqrt(20)
    assert effect.shared == pytest.approx(shared)
    half = math.hypot(stats.t.ppf(0.975, 2) * own, stats.t.ppf(0.975, 19) * shared)
    assert (effect.low, effect.high) == pytest.approx((0.03 - half, 0.03 + half))
    means = {arm: table.mean(axis=1) for arm, table in arms.items()}
    plain = judge("trial", {"higher": means}, sample=False)["higher"].effect
    assert plain.mean == pytest.approx(effect.mean)
    assert plain.shared == 0


def test_an_estimate_gets_no_verdict(register: Register) -> None:
    one = dataclasses.replace(
        HIGHER, estimate=True, wording={word: f"So: {word}." for word in ESTIMATED}
    )
    register(one)
    verdict = verdict_on(one, seeds(1, 2, 3), seeds(2, 3.5, 4))
    assert (verdict.word, verdict.repeats, one.primary) == ("estimated", None, False)
    assert "Rule      an estimate: no word is given" in str(verdict)
    register(one, *family_of(2))
    assert (
        judge("trial", {"h0": {"batch": scattered(0.0124)}}, sample=False)["h0"].word == "supported"
    )


@pytest.mark.parametrize("shared", [0.0, 0.5, 2.0])
@pytest.mark.parametrize(("n", "family"), [(3, 1), (3, 6), (4, 4), (10, 8)])
def test_intervals_hold_as_often_as_they_say(n: int, family: int, shared: float) -> None:
    """Whatever part of the error seeds have in common: where few seeds meet many hypotheses, too."""
    draws, level = 200_000, 1 - 0.05 / family
    random = np.random.default_rng([n, family])
    own = random.normal(size=(draws, n))
    images = shared / math.sqrt(n) * random.normal(size=(draws, 1))
    seen = shared / math.sqrt(n) * np.sqrt(random.chisquare(19, draws) / 19)
    error = own.std(axis=1, ddof=1) / math.sqrt(n)
    missed = np.abs((own + images).mean(axis=1)) > half_width(error, n, level, seen)
    assert missed.mean() < (1 - level) * 1.15


def test_an_interval_is_never_narrower_for_more_uncertainty() -> None:
    for n in (3, 5, 20):
        for error in (0.1, 1.0, 10.0):
            widths = [half_width(error, n, 0.99, shared) for shared in np.linspace(0, 3, 30)]
            assert (np.diff(widths) > 0).all()


@pytest.mark.parametrize(
    ("n", "other", "distance", "shared"),
    [
        *[(3, 3, 10, 0), (3, 3, 2, 0.0), (5, 5, 4, 0.5), (5, 5, 0, 1), (6, 6, -3, 0)],
        *[(12, 12, 3, 0.5), (12, 12, -8, 1), (5, 12, 2, 0), (8, 4, 3, 0.5)],
    ],
)
def test_chances_are_those_of_an_independent_build(
    register: Register, n: int, other: int, distance: float, shared: float
) -> None:
    """Of builds that find what this one found, as many as foretold are repeated by another."""
    one = dataclasses.replace(HIGHER, arms="batch", resolution=shared * 0.002)
    register(one)
    values = spread_out(0.01 + distance * 0.002, 0.004, n)
    found = judge("trial", {"higher": {"batch": values}}, sample=False)["higher"]
    # what may be true, given these values: spreads and means, as Student's t has them
    draws, random = 40_000, np.random.default_rng(n)
    error = math.hypot(0.004, one.resolution / math.sqrt(3))
    true = error * np.sqrt((n - 1) / random.chisquare(n - 1, draws))
    means = found.effect.mean + random.normal(size=draws) * true / math.sqrt(n)
    others = means[:, None] + random.normal(size=(draws, other)) * true[:, None]
    middle, own = others.mean(axis=1), others.std(axis=1, ddof=1) / math.sqrt(other)
    half = np.hypot(stats.t.ppf(0.975, other - 1) * own, stats.t.ppf(0.975, 19) * one.resolution)
    low, high = middle - half, middle + half
    words = {
        "supported": low > 0.01,
        "contradicted": high < -0.01,
        "not supported": (high < 0.01) & (high >= -0.01),
        "inconclusive": (low <= 0.01) & (high >= 0.01),
    }
    leaning = words["inconclusive"] & ((low > 0) | (middle >= 0.01))
    foretold = chances.chances(one, found.effect, n=other)
    assert other != n or foretold == found.chances
    for word, share in words.items():
        chance = chances.repeats(word, foretold)
        assert chance == pytest.approx(share.mean(), abs=0.01), word
    assert foretold.get("leaning", 0) == pytest.approx(leaning.mean(), abs=0.01)
    assert sum(foretold.values()) == pytest.approx(1)
    assert found.repeats == chances.repeats(found.word, found.chances)


def test_rounds_of_one_measurement_say_nothing_of_another_build(register: Register) -> None:
    register(HIGHER)
    rounds = pd.Index(range(3), name="round")
    arms = {arm: pd.Series([1.0, 2, 3 + i], rounds) for i, arm in enumerate(HIGHER.arms)}
    assert judge("trial", {"higher": arms}, sample=False)["higher"].repeats is None


def test_parts_on_one_side_only_are_refused(register: Register) -> None:
    register(HIGHER, RATIO)
    table, series = by_part(np.ones((3, 2))), pd.Series([1.0, 2, 3])
    with pytest.raises(ValueError, match="on both sides, or on none"):
        judge("trial", {"higher": {"without": series, "batch": table}}, sample=False)
    with pytest.raises(ValueError, match="ratio is a ratio, which takes one value for each seed"):
        judge("trial", {"ratio": {"without": table, "batch": table}}, sample=False)


@pytest.mark.parametrize(
    ("low", "high", "leans"),
    [(0.001, 0.03, True), (-0.02, 0.05, True), (-0.02, 0.03, False), (0.02, 0.03, False)],
)
def test_what_is_inconclusive_may_lean(
    register: Register, low: float, high: float, leans: bool
) -> None:
    for direction, ends in ((1, (low, high)), (-1, (-high, -low))):
        one = dataclasses.replace(HIGHER, arms="batch", direction=direction)
        register(one)
        assert verdict_on(one, spanning(*ends)).leans == leans


def spread_out(mean: float, spread: float, n: int) -> Values:
    """Return values with exactly this mean and this standard deviation."""
    values = np.linspace(-1, 1, n)
    return seeds(*(mean + spread * values / values.std(ddof=1)))


@pytest.mark.parametrize("one", [HIGHER, RATIO], ids=lambda one: one.id)
@pytest.mark.parametrize("share", [0.0, 2.0, 4.0])
def test_the_power_that_is_planned_is_the_power_that_is_had(
    register: Register, one: Hypothesis, share: float
) -> None:
    effect, n = share * one.bound, 5
    planned = Plan(
        effect=math.exp(effect) if one.unit == "ratio" else effect, spread=one.bound, n=n
    )
    words = words_of(register, [effect, 0.0], one.bound, n, like=one)[:, 0]
    deserved = "supported" if share > 1 else "not supported"
    had = float((words == deserved).mean())
    assert power(one, planned, 2) == pytest.approx(had, abs=0.04)


DRAWS = 2000


def words_of(
    register: Register,
    effects: npt.ArrayLike,
    spread: float,
    n: int,
    *,
    like: Hypothesis = HIGHER,
) -> npt.NDArray[np.str_]:
    """Return the words of 2,000 draws of an experiment, shape (draws, hypotheses).

    Each hypothesis has an effect, and n seeds whose paired differences scatter around it.
    """
    effects = np.atleast_1d(np.asarray(effects, float))
    family = [dataclasses.replace(like, id=f"h{row}") for row in range(len(effects))]
    register(*family)
    random = np.random.default_rng([n, len(effects)])
    shape = (DRAWS, len(effects), n)
    first = random.normal(0.5, 0.05, shape)
    second = first + random.normal(effects[:, None], spread, shape)
    if like.unit == "ratio":
        first, second = np.exp(first), np.exp(second)
    verdicts = [
        judge(
            "trial",
            {
                one.id: {"without": dict(enumerate(without)), "batch": dict(enumerate(batch))}
                for one, without, batch in zip(family, *arms, strict=True)
            },
            sample=False,
        )
        for arms in zip(first.tolist(), second.tolist(), strict=True)
    ]
    return np.array([[verdict.word for verdict in draw.values()] for draw in verdicts])


def share_with(words: npt.NDArray[np.str_], *wanted: str) -> float:
    """Return the share of draws in which any hypothesis has one of the words."""
    return float(np.isin(words, wanted).any(axis=1).mean())


def at_most(share: float) -> float:
    """Return the share of 2,000 draws that is exceeded once in a million times."""
    return float(stats.binom.isf(1e-6, DRAWS, share)) / DRAWS


@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("n", [3, 5])
def test_a_family_seldom_gives_a_false_verdict(register: Register, size: int, n: int) -> None:
    assert share_with(words_of(register, np.full(size, 0.01), 0.005, n), "supported") <= 0.05
    opposite = words_of(register, np.full(size, -0.01), 0.005, n)
    assert share_with(opposite, "supported", "contradicted") <= 0.05


@pytest.mark.parametrize("n", [3, 5])
def test_noise_in_which_the_smallest_effect_is_lost_uses_up_the_level(
    register: Register, n: int
) -> None:
    found = share_with(words_of(register, np.zeros(3), 10.0, n), "supported", "contradicted")
    assert 0.02 < found <= at_most(0.05)


def test_without_the_correction_the_same_family_errs_more_often(register: Register) -> None:
    found = words_of(register, np.full(8, 0.01), 0.005, 5, like=SECONDARY)
    assert share_with(found, "supported") > 0.12


@pytest.mark.parametrize("one", [HIGHER, LOWER, RATIO], ids=lambda one: one.id)
def test_an_effect_that_is_not_larger_than_the_smallest_is_seldom_supported(
    register: Register, one: Hypothesis
) -> None:
    for share in (1, 0.8, 0.5):
        effect = one.direction * one.bound * share
        found = words_of(register, effect, one.bound / 2, 5, like=one)
        assert share_with(found, "supported") <= at_most(0.025)
        if share == 1:
            assert share_with(found, "supported") > 0.01


@pytest.mark.parametrize(
    ("one", "effect", "spread"),
    [(HIGHER, 0.02, 0.004), (LOWER, -0.02, 0.004), (RATIO, 2 * math.log(1.25), 0.1)],
    ids=["higher", "lower", "ratio"],
)
def test_an_effect_of_twice_the_smallest_is_found(
    register: Register, one: Hypothesis, effect: float, spread: float
) -> None:
    found = words_of(register, effect, spread, 5, like=one)
    assert share_with(found, "supported") >= 0.8


def test_an_effect_of_twice_the_smallest_is_found_in_a_family_of_four(register: Register) -> None:
    for others in (0.02, 0.0, 0.01):
        found = words_of(register, [0.02, others, others, others], 0.004, 5)
        assert share_with(found[:, :1], "supported") >= 0.75


def test_image_sampling_seldom_makes_a_false_verdict(register: Register) -> None:
    """Two arms of equal worth, tested on the same images: by part, false words are as rare."""
    register(HIGHER)
    random = np.random.default_rng(0)
    false = dict.fromkeys(("by part", "by seed"), 0)
    for _ in range(DRAWS):
        # an image's own effect is common to all seeds; the smallest effect is the true one
        images = random.normal(0.01, 0.35 * math.sqrt(20 / 10_000), 20)
        values = by_part(images + random.normal(0, 0.004, (5, 1)) + random.normal(0, 0.01, (5, 20)))
        for kind, batch in (("by part", values), ("by seed", values.mean(axis=1))):
            verdict = judge(
                "trial", {"higher": {"without": 0 * batch, "batch": batch}}, sample=False
            )
            false[kind] += verdict["higher"].word == "supported"
    assert false["by part"] / DRAWS <= at_most(0.025)
    assert false["by seed"] / DRAWS > 0.06


def test_a_large_effect_the_other_way_is_contradicted(register: Register) -> None:
    found = words_of(register, np.full(4, -0.05), 0.005, 5)
    assert (found == "contradicted").mean() > 0.97


# Claims

CLAIM = Claim(
    id="claim",
    number=1,
    statement="It helps.",
    hypothesis="It will help.",
    literature="It helped.",
    sources=["ioffe2015"],
    parts=["a", "b", "c", "d", "e"],
    wording={word: f"So: {word}." for word in COMPOSED},
)
LETTERS = {
    "s": "supported", "n": "not supported", "c": "contradicted", "i": "inconclusive",
    "l": "leaning", "e": "estimated", "-": "not judged",
}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ("s", "supported"),
        ("sss", "supported"),
        ("n", "not supported"),
        ("cc", "contradicted"),
        ("ii", "inconclusive"),
        ("--", "not judged"),
        ("", "not judged"),
        ("s--", "supported"),
        ("i-", "inconclusive"),
        ("sn", "depends"),
        ("ssssc", "depends"),
        ("ncs", "depends"),
        ("siiin", "depends"),
        ("nc", "not supported"),
        ("ccccn", "not supported"),
        ("nci", "not supported"),
        ("ssi", "supported"),
        ("si", "inconclusive"),
        ("sii", "inconclusive"),
        ("ssi--", "supported"),
        ("cci", "contradicted"),
        ("ci", "inconclusive"),
        ("ncii", "inconclusive"),
        ("se", "supported"),
        ("e", "not judged"),
        ("nnl", "inconclusive"),
        ("nni", "not supported"),
        ("ssl", "supported"),
    ],
)
def test_a_claim_s_verdict_is_composed_from_its_parts(parts: str, word: str) -> None:
    for letters in (parts, parts[::-1]):
        found = {
            name: {
                "word": LETTERS[letter].replace("leaning", "inconclusive"),
                "leans": letter == "l",
            }
            for name, letter in zip("abcde", letters, strict=False)
        }
        assert compose(CLAIM, {**found, "of another claim": {"word": "contradicted"}}) == word


@pytest.mark.parametrize(
    "change",
    [{"parts": []}, {"parts": ["a", "a"]}, {"wording": HIGHER.wording}],
)
def test_an_impossible_claim_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(change))}"):
        dataclasses.replace(CLAIM, **change)


def test_verdicts_are_recorded_under_their_ids(register: Register) -> None:
    register(HIGHER, RATIO)
    arms = {"without": seeds(1, 1, 1), "batch": seeds(3, 3.1, 3.2)}
    found = judge("trial", {"higher": arms, "ratio": arms}, sample=False)
    record("trial", found, seeds=3)
    assert quote("trial.higher") == "supported"
    assert quote("trial.ratio", ".2f") == format(found["ratio"].effect, ".2f")
    assert quote("trial.ratio.sentence") == found["ratio"].sentence
    assert recall("trial.seeds") == 3
    assert recall("trial.higher.counted") == "seed"


def test_what_a_series_is_indexed_by_is_what_n_counts(register: Register) -> None:
    register(HIGHER)
    rounds = pd.Index(range(3), name="round")
    arms = {"without": pd.Series([1.0, 2, 3], rounds), "batch": pd.Series([2.0, 3, 4.1], rounds)}
    verdict = judge("trial", {"higher": arms}, sample=False)["higher"]
    assert (verdict.word, verdict.effect.n, verdict.counted) == ("supported", 3, "round")


@pytest.mark.parametrize(
    ("word", "n", "provisional"),
    [("supported", 3, True), ("supported", 4, False), ("not judged", 2, False)],
)
def test_few_values_make_a_verdict_provisional(word: str, n: int, provisional: bool) -> None:
    assert is_provisional(word, n) == provisional
