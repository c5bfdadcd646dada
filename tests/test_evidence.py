from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bn_tutorial import evidence
from bn_tutorial.evidence import (
    WORDS,
    Claim,
    Interval,
    Verdict,
    claims,
    difference,
    interval,
    judge,
    quote,
    recall,
    record,
    roughness,
)
from bn_tutorial.recipe import Recipe
from bn_tutorial.runs import Run, Runs

NAN = math.nan
CLAIM = Claim(
    "higher", "It is higher.", "height", 1, 0.01, {word: f"So: {word}." for word in WORDS}
)
LOWER = dataclasses.replace(CLAIM, direction=-1)


def spanning(low: float, high: float) -> Interval:
    """Return an interval of three seeds with these ends."""
    return Interval((low + high) / 2, low, high, (low, (low + high) / 2, high))


# Intervals


@pytest.mark.parametrize("values", [(1.0, 2.0), (0.1, -0.2, 0.4), tuple(range(10))])
def test_an_interval_is_that_of_student(values: tuple[float, ...]) -> None:
    found = interval(values)
    low, high = stats.t.interval(
        0.95, df=len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
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


@pytest.mark.parametrize("bad", [NAN, math.inf])
def test_an_interval_of_a_value_that_is_not_finite_has_no_ends(bad: float) -> None:
    found = interval([1, bad, 2])
    assert not math.isfinite(found.mean)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.n == 3


def test_an_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        interval([])


def test_a_difference_is_paired_by_seed() -> None:
    first, second = {0: 1.0, 1: 10.0, 2: 100.0}, {2: 101.5, 0: 2.0, 1: 11.0}
    assert difference(first, second).values == (1.0, 1.0, 1.5)
    assert difference(second, first).values == (-1.0, -1.0, -1.5)
    assert difference(first, second) == interval([1.0, 1.0, 1.5])


@pytest.mark.parametrize(
    ("second", "min_seeds"), [({0: 1.0}, 1), ({0: 1.0, 2: 1.0}, 1), ({0: 1.0, 1: 1.0}, 3)]
)
def test_a_difference_needs_the_same_seeds(second: dict[int, float], min_seeds: int) -> None:
    with pytest.raises(ValueError, match=rf"at least {min_seeds}: not \[0, 1\] and \[0"):
        difference({1: 0.0, 0: 0.0}, second, min_seeds=min_seeds)
    with pytest.raises(ValueError, match="the same seeds"):
        difference({}, {})


def test_roughness_is_the_mean_change_from_epoch_to_epoch() -> None:
    recipe = Recipe(epochs=3)
    runs = Runs(
        Run(recipe, seed, {"loss": [1.0] * len(values), "val_accuracy": values}, {})
        for seed, values in {4: [0.1, 0.4, 0.2], 1: [0.5, 0.5, 0.5], 2: [0.5, 0.6]}.items()
    )
    found = roughness(runs, "val_accuracy")
    assert list(found) == [4, 1, 2]
    assert found[4] == pytest.approx(0.25)
    assert found[1] == 0
    assert math.isnan(found[2])  # diverged


# Formats


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (".1pp", "1.2 percentage points (95 % interval −0.6 to 3.1, n = 3)"),
        ("+.1pp", "+1.2 percentage points (95 % interval −0.6 to +3.1, n = 3)"),
        (".3f", "0.012 (95 % interval -0.006 to 0.031, n = 3)"),
        (".0%", "1% (95 % interval -1% to 3%, n = 3)"),
    ],
)
def test_an_interval_as_text(spec: str, text: str) -> None:
    assert format(Interval(0.0124, -0.006, 0.0308, (0.0, 0.0, 0.0372)), spec) == text


# Verdicts

TINY = 1e-12
BOUNDARIES = [
    (0.01 + TINY, 0.5, "supported"),
    (0.01, 0.5, "inconclusive"),
    (0.005, 0.015, "inconclusive"),
    (-0.5, 0.5, "inconclusive"),
    (-0.5, 0.01, "inconclusive"),
    (0.01, 0.01, "inconclusive"),
    (-0.5, 0.01 - TINY, "not supported"),
    (0.001, 0.009, "not supported"),
    (-0.009, 0.009, "not supported"),
    (-0.5, -0.01, "not supported"),
    (-0.5, -0.01 - TINY, "contradicted"),
]


@pytest.mark.parametrize(("low", "high", "word"), BOUNDARIES)
def test_a_verdict_follows_from_the_ends_of_the_interval(
    low: float, high: float, word: str
) -> None:
    for claim, effect in ((CLAIM, spanning(low, high)), (LOWER, spanning(-high, -low))):
        verdict = judge(claim, effect, sample=False)
        assert verdict.word == word
        assert verdict.sentence == f"So: {word}."
        assert verdict.effect is effect


@pytest.mark.parametrize(
    ("effect", "sample", "reason"),
    [
        (spanning(0.1, 0.2), True, "this is the bundled sample"),
        (interval([NAN, 0.1, 0.2]), True, "this is the bundled sample"),
        (interval([NAN, 0.1, 0.2]), False, "a run diverged"),
        (interval([math.inf, 0.1]), False, "a run diverged"),
        (interval([0.1]), False, "one seed gives no interval"),
    ],
)
@pytest.mark.parametrize("claim", [CLAIM, LOWER])
def test_what_is_not_judged(claim: Claim, effect: Interval, sample: bool, reason: str) -> None:
    verdict = judge(claim, effect, sample=sample)
    assert (verdict.word, verdict.reason) == ("not judged", reason)
    assert str(verdict).endswith(f"Verdict   not judged: {reason}")


def test_a_verdict_as_text() -> None:
    text = str(judge(CLAIM, spanning(0.02, 0.04), sample=False))
    assert max(map(len, text.splitlines())) <= 78
    assert text.startswith("Claim     It is higher.\nEffect    height\n")
    words = " ".join(text.split())
    assert "supported if its 95 % interval lies above +1.0 percentage points" in words
    assert "+3.0 percentage points (95 % interval +2.0 to +4.0, n = 3)" in words
    assert words.endswith("Verdict supported, provisional (n = 3)")
    words = " ".join(str(judge(LOWER, interval([-0.03, -0.02] * 2), sample=False)).split())
    assert "interval lies below −1.0 percentage points" in words
    assert words.endswith("Verdict supported")  # n = 4


def test_a_claim_is_found_by_its_id() -> None:
    name = next(iter(claims()))
    assert judge(name, spanning(0.1, 0.2), sample=True).claim.id == name
    with pytest.raises(ValueError, match=r"there is no claim 'faster': claims\.toml has") as error:
        judge("faster", spanning(0, 1), sample=False)
    assert all(name in str(error.value) for name in claims())


def test_every_claim_is_complete() -> None:
    text = resources.files("bn_tutorial").joinpath("claims.toml").read_text("utf-8")
    written = tomllib.loads(text)
    assert list(claims()) == list(written) != []
    for name, claim in claims().items():
        assert set(written[name]) <= {"statement", "effect", "direction", "smallest", "wording"}
        assert set(claim.wording) == set(WORDS), name
        sentences = [claim.statement, *claim.wording.values()]
        assert all(sentence.endswith(".") for sentence in sentences), name
        assert len(set(claim.wording.values())) == len(WORDS), name
        assert claim.effect
        assert claim.direction in (-1, 1)
        assert claim.smallest > 0


def words(effect: float, spread: float, n: int, claim: Claim) -> list[str]:
    """Return 2,000 verdicts on seeds that scatter around an effect."""
    draws = np.random.default_rng(n).normal(effect, spread, (2000, n))
    return [judge(claim, interval(draw), sample=False).word for draw in draws]


def at_most(share: float) -> int:
    """Return what a binomial count of 2,000 exceeds once in a million times."""
    return int(stats.binom.isf(1e-6, 2000, share))


@pytest.mark.parametrize("claim", [CLAIM, LOWER])
@pytest.mark.parametrize("n", [3, 5])
@pytest.mark.parametrize("spread", [0.01, 10.0])
def test_noise_alone_is_seldom_called_an_effect(claim: Claim, n: int, spread: float) -> None:
    found = words(0, spread, n, claim)
    assert found.count("supported") + found.count("contradicted") <= at_most(0.05)
    if spread == 10.0:  # the smallest effect hardly counts: the level is used up
        assert found.count("supported") + found.count("contradicted") > 50


@pytest.mark.parametrize("n", [3, 5])
def test_the_smallest_effect_itself_is_seldom_called_supported(n: int) -> None:
    for claim in (CLAIM, LOWER):
        found = words(claim.direction * claim.smallest, 0.02, n, claim)
        assert 10 < found.count("supported") <= at_most(0.025)


def test_a_large_effect_is_found() -> None:
    assert words(0.05, 0.005, 5, CLAIM).count("supported") > 1950
    assert words(0.05, 0.005, 5, LOWER).count("contradicted") > 1950


# Records

EFFECT = Interval(0.0124, -0.006, 0.0308, (0.0, 0.0, 0.0372))


def test_what_was_recorded_is_recalled() -> None:
    verdict = judge(CLAIM, EFFECT, sample=False)
    record("group", share=0.25, count=3, text="thirty", effect=EFFECT, verdict=verdict, none=NAN)
    assert recall("group.share") == 0.25
    assert recall("group.count") == 3
    assert recall("group.text") == "thirty"
    assert math.isnan(recall("group.none"))
    parts = {**dataclasses.asdict(EFFECT), "values": [0.0, 0.0, 0.0372], "n": 3}
    assert recall("group.effect") == parts
    assert recall("group.effect.low") == -0.006
    assert recall("group.verdict.effect") == parts
    assert recall("group.verdict.effect.n") == 3
    assert recall("group.verdict.word") == "inconclusive"
    assert recall("group.verdict.sentence") == "So: inconclusive."


@pytest.mark.parametrize(
    ("name", "spec", "text"),
    [
        ("share", "", "0.25"),
        ("share", ".1%", "25.0%"),
        ("share", ".1pp", "25.0"),
        ("loss", "+.1pp", "−1.2"),
        ("loss", ".2f", "-0.01"),
        ("count", ",", "50,000"),
        ("text", "", "thirty"),
        ("effect", ".1pp", "1.2 percentage points (95 % interval −0.6 to 3.1, n = 3)"),
        ("effect.low", ".1pp", "−0.6"),
        ("effect.n", "", "3"),
        ("verdict", "", "inconclusive"),
        ("verdict.word", "", "inconclusive"),
        ("verdict", ".1pp", "1.2 percentage points (95 % interval −0.6 to 3.1, n = 3)"),
        ("verdict.effect", ".3f", "0.012 (95 % interval -0.006 to 0.031, n = 3)"),
        ("verdict.effect.high", ".0pp", "3"),
    ],
)
def test_what_was_recorded_is_quoted(name: str, spec: str, text: str) -> None:
    verdict = judge(CLAIM, EFFECT, sample=False)
    values: dict[str, Any] = {"share": 0.25, "loss": -0.0124, "count": 50000, "text": "thirty"}
    record("group", **values, effect=EFFECT, verdict=verdict)
    assert quote(f"group.{name}", spec) == text


def test_a_value_that_cannot_be_written_so_is_refused() -> None:
    record("group", text="thirty")
    with pytest.raises(ValueError, match="format"):
        quote("group.text", ".1f")


@pytest.mark.parametrize(
    "name",
    ["other.share", "group.shares", "group.share.mean", "group.text.word", "group.effect.median",
     "group.effect.values.0", "other", ""],
)  # fmt: skip
def test_what_was_not_recorded_is_a_key_error(name: str) -> None:
    record("group", share=0.25, text="thirty", effect=EFFECT)
    with pytest.raises(KeyError, match=f"no evidence is recorded as '{name}'"):
        quote(name)


def test_a_record_replaces_the_one_before() -> None:
    record("group", first=1, second=2)
    record("other", first=3)
    record("group", second=4)
    assert recall("group.second") == 4
    assert recall("other.first") == 3
    with pytest.raises(KeyError, match=r"group\.first"):
        recall("group.first")


def test_evidence_belongs_to_a_profile(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "smoke")
    record("group", share=0.25)
    assert evidence.evidence_path("group") == home / "evidence" / "smoke" / "group.json"
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "full")
    with pytest.raises(KeyError, match=r"group\.share"):
        recall("group.share")


def test_an_unchanged_record_leaves_the_file_alone() -> None:
    record("group", share=0.25, effect=EFFECT)
    path = evidence.evidence_path("group")
    before = path.stat()
    record("group", share=0.25, effect=EFFECT)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    record("group", share=0.5, effect=EFFECT)
    assert path.stat().st_ino != before.st_ino
    assert recall("group.share") == 0.5


@pytest.mark.parametrize("value", [[0.1], None, {"a": 1}, np.float32(0.5), np.zeros(2), 1j])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    record("group", share=0.25)
    with pytest.raises(TypeError, match="a number, a text, an interval or a verdict"):
        record("group", share=0.5, other=value)
    assert recall("group.share") == 0.25


def test_a_record_is_json_that_other_programs_read() -> None:
    record("group", verdict=Verdict(CLAIM, EFFECT, "inconclusive"))
    content = json.loads(evidence.evidence_path("group").read_text("utf-8"))
    assert content["verdict"]["claim"] == "higher"
