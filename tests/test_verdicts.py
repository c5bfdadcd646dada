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
    compose,
    interval,
    is_provisional,
    judge,
    quote,
    recall,
    record,
    verdicts,
)
from bn_tutorial.evidence.registry import WORDS, Claim, Hypothesis

NAN = math.nan
HIGHER = Hypothesis(
    id="higher",
    experiment="trial",
    statement="It is higher.",
    effect="height",
    arms=["without", "batch"],
    wording={word: f"So: {word}." for word in WORDS if word != "depends"},
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


@pytest.mark.parametrize(
    ("value", "word"),
    [(0.5, "supported"), (0.25, "inconclusive"), (0.0, "not supported"), (-0.5, "contradicted")],
)
def test_seeds_that_agree_wholly_give_an_interval_without_width(
    register: Register, value: float, word: str
) -> None:
    one = dataclasses.replace(HIGHER, smallest=0.25)
    register(one)
    verdict = verdict_on(one, seeds(1, 1, 1), seeds(*[1 + value] * 3))
    assert (verdict.effect.low, verdict.effect.high) == (value, value)
    assert verdict.word == word


ONE = seeds(1, 2, 3)


@pytest.mark.parametrize(
    ("one", "arms", "reason"),
    [
        (HIGHER, {"without": ONE, "batch": seeds(NAN, 2, 3)}, "a run diverged"),
        (HIGHER, {"without": seeds(1, 2, math.inf), "batch": ONE}, "a run diverged"),
        (HIGHER, {"without": seeds(1), "batch": seeds(NAN)}, "a run diverged"),
        (HIGHER, {"without": seeds(1), "batch": seeds(2)}, "one seed gives no interval"),
        (HIGHER, {"without": ONE}, "the arm 'batch' was not measured"),
        (HIGHER, {"batch": ONE}, "the arm 'without' was not measured"),
        (HIGHER, {"without": ONE, "batch": {}}, "the arm 'batch' was not measured"),
        (HIGHER, {}, "it was not measured"),
        (HIGHER, {"without": ONE, "batch": seeds(1, 2)}, "with different seeds"),
        (HIGHER, {"without": ONE, "batch": {1: 1.0, 2: 2.0, 3: 3.0}}, "with different seeds"),
        (RATIO, {"without": ONE, "batch": seeds(1, 2, 0)}, "a ratio needs values above zero"),
        (RATIO, {"without": seeds(1, -2, 3), "batch": ONE}, "a ratio needs values above zero"),
        (RATIO, {"without": ONE, "batch": seeds(NAN, 2, 3)}, "a run diverged"),
        (RATIO, {"without": ONE, "batch": seeds(math.inf, 2, 3)}, "a run diverged"),
        (ALONE, {"batch": seeds(5, NAN)}, "a run diverged"),
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
    found = judge("trial", {"higher": {"batch": ONE, "without": ONE}}, sample=False)
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
    assert f"{rule} and Holm's correction upholds it" in words
    assert "+3.0 percentage points (95 % interval +2.0 to +4.0, n = 3)" in words
    assert words.endswith("Verdict supported, provisional (n = 3)")
    secondary = dataclasses.replace(alone, direction=-1, primary=False)
    register(secondary)
    words = " ".join(str(verdict_on(secondary, seeds(-0.03, -0.02, -0.03, -0.02))).split())
    assert "lies below −1.0 percentage points (secondary: not corrected)" in words
    assert words.endswith("Verdict supported")  # n = 4


def test_a_verdict_as_text_in_other_units(register: Register) -> None:
    register(RATIO, ALONE)
    measured = {
        "ratio": {"without": seeds(1, 1), "batch": seeds(2, 2)},
        "alone": {"batch": seeds(5, 5)},
    }
    found = judge("trial", measured, sample=False)
    words = " ".join(str(found["ratio"]).split())
    assert "interval lies above a factor of 1.25 and" in words
    assert "Measured a factor of 2 (95 % interval 2 to 2, n = 2)" in words
    words = " ".join(str(found["alone"]).split())
    assert "interval lies above 3 and" in words
    assert "Measured 5 (95 % interval 5 to 5, n = 2)" in words
    smaller = dataclasses.replace(RATIO, direction=-1)
    register(smaller)
    text = str(verdict_on(smaller, seeds(1, 1), seeds(2, 2)))
    assert "lies below a factor of 0.8" in " ".join(text.split())


# Holm's correction


def test_holm_by_hand() -> None:
    # sorted, times how many are left: 0.005 × 4, 0.01 × 3, 0.03 × 2, 0.04 × 1; never falling
    found = verdicts._holm(np.array([0.01, 0.04, 0.03, 0.005]))
    assert found == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert verdicts._holm(np.array([0.9, 0.6])) == pytest.approx([1, 1])
    assert verdicts._holm(np.ones(0)).shape == (0,)


def scattered(p: float, smallest: float = 0.01) -> Values:
    """Return three seeds whose one-sided p against the smallest effect is `p`."""
    noise = np.array([-1, 0, 1]) * 0.001
    return seeds(*(smallest - stats.t.ppf(p, 2) * 0.001 / math.sqrt(3) + noise))


@pytest.mark.parametrize(
    ("p", "words"),
    [
        ((0.02,), ["supported"]),
        ((0.02, 0.02), ["inconclusive", "inconclusive"]),
        ((0.02, 0.01), ["supported", "supported"]),  # 0.01 × 2, then 0.02 × 1
        ((0.012, 0.008, 0.02), ["supported", "supported", "supported"]),
        ((0.012, 0.009, 0.02), ["inconclusive", "inconclusive", "inconclusive"]),  # 0.027
        ((0.013, 0.001, 0.02), ["inconclusive", "supported", "inconclusive"]),  # 0.003, 0.026
        ((0.02, 0.999), ["supported", "not supported"]),  # 0.001 × 2, then 0.02 × 1
        ((0.02, 0.5), ["inconclusive", "inconclusive"]),
    ],
)
def test_primary_hypotheses_are_corrected_after_holm(
    register: Register, p: tuple[float, ...], words: list[str]
) -> None:
    family = {
        f"h{row}": dataclasses.replace(HIGHER, id=f"h{row}", arms="batch") for row in range(len(p))
    }
    register(*family.values())
    measured = {name: {"batch": scattered(value)} for name, value in zip(family, p, strict=True)}
    found = judge("trial", measured, sample=False)
    assert [verdict.word for verdict in found.values()] == words
    for verdict, value in zip(found.values(), p, strict=True):
        overruled = verdict.word == "inconclusive" and value < 0.025
        assert verdict.reason == ("supported, but not after Holm's correction" * overruled)
        assert (verdict.effect.low > 0.01) == (value < 0.025)  # the plain interval is shown


def test_only_primary_hypotheses_are_corrected_and_counted(register: Register) -> None:
    one, other = (dataclasses.replace(HIGHER, id=name, arms="batch") for name in "ab")
    secondary = dataclasses.replace(SECONDARY, arms="batch")
    measured = {name: {"batch": scattered(0.02)} for name in ("a", "secondary")}
    register(one, secondary)
    found = judge("trial", measured, sample=False)
    assert [verdict.word for verdict in found.values()] == ["supported", "supported"]
    register(one, other, secondary)  # registered counts, even if it was not measured
    found = judge("trial", measured, sample=False)
    assert [verdict.word for verdict in found.values()] == [
        "inconclusive", "not judged", "supported",
    ]  # fmt: skip


def test_what_is_not_contradicted_after_the_correction_may_still_be_not_supported(
    register: Register,
) -> None:
    one, other = (dataclasses.replace(HIGHER, id=name, arms="batch") for name in "ab")
    register(one, other)
    opposite = {seed: -value for seed, value in scattered(0.02).items()}
    measured = {"a": {"batch": opposite}, "b": {"batch": seeds(-0.001, 0.0, 0.001)}}
    found = judge("trial", measured, sample=False)
    assert [verdict.word for verdict in found.values()] == ["not supported", "not supported"]
    assert found["a"].reason == "contradicted, but not after Holm's correction"
    assert found["b"].reason == ""


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
    none = words_of(register, np.zeros(size), 0.005, n)
    assert share_with(none, "supported", "contradicted") <= 0.05
    assert share_with(words_of(register, np.full(size, 0.01), 0.005, n), "supported") <= 0.05
    # whoever corrects only "above or below the smallest?" gets 0.18 here
    opposite = words_of(register, np.full(size, -0.01), 0.005, n)
    assert share_with(opposite, "supported", "contradicted") <= 0.05


@pytest.mark.parametrize("n", [3, 5])
def test_noise_in_which_the_smallest_effect_is_lost_uses_up_the_level(
    register: Register, n: int
) -> None:
    found = share_with(words_of(register, np.zeros(3), 10.0, n), "supported", "contradicted")
    assert 0.03 < found <= at_most(0.05)


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
    # 0.96 whether the others have the same effect or none, 0.81 if they all lie on the border
    for others, bound in ((0.02, 0.9), (0.0, 0.9), (0.01, 0.75)):
        found = words_of(register, [0.02, others, others, others], 0.004, 5)
        assert share_with(found[:, :1], "supported") >= bound


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
    wording={word: f"So: {word}." for word in WORDS},
)
LETTERS = {
    "s": "supported", "n": "not supported", "c": "contradicted", "i": "inconclusive",
    "-": "not judged",
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
    ],
)
def test_a_claim_s_verdict_is_composed_from_its_parts(parts: str, word: str) -> None:
    for letters in (parts, parts[::-1]):
        found = {
            name: {"word": LETTERS[letter]} for name, letter in zip("abcde", letters, strict=False)
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
    arms = {"without": pd.Series([1.0, 2, 3], rounds), "batch": pd.Series([2.0, 3, 4], rounds)}
    verdict = judge("trial", {"higher": arms}, sample=False)["higher"]
    assert (verdict.word, verdict.effect.n, verdict.counted) == ("supported", 3, "round")


@pytest.mark.parametrize(
    ("word", "n", "provisional"),
    [("supported", 3, True), ("supported", 4, False), ("not judged", 2, False)],
)
def test_few_values_make_a_verdict_provisional(word: str, n: int, provisional: bool) -> None:
    assert is_provisional(word, n) == provisional
