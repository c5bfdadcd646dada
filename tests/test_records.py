"""What was found, on disk."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.evidence import Interval, Verdict, evidence_path, quote, recall, record
from bn_tutorial.evidence.registry import JUDGED, Hypothesis
from bn_tutorial.recipe import Recipe

from .histories import MADE, made_up, made_with

NAN = math.nan
HIGHER = Hypothesis(
    id="higher",
    experiment="trial",
    statement="It is higher.",
    effect="height",
    arms=["without", "batch"],
    wording={word: f"So: {word}." for word in JUDGED},
)
EFFECT = Interval(0.0124, -0.006, 0.0308, (0.0, 0.0, 0.0372))


def test_what_was_recorded_is_recalled() -> None:
    verdict = Verdict(HIGHER, EFFECT, "inconclusive")
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
        ("loss", ".2f", "−0.01"),
        ("count", ",", "50,000"),
        ("text", "", "thirty"),
        ("effect", ".1pp", "1.2 points [−0.6 to 3.1]"),
        ("effect.low", ".1pp", "−0.6"),
        ("effect.n", "", "3"),
        ("verdict", "", "inconclusive"),
        ("verdict.word", "", "inconclusive"),
        ("verdict", ".1pp", "1.2 points [−0.6 to 3.1]"),
        ("verdict.effect", ".3f", "0.012 [−0.006 to 0.031]"),
        ("verdict.effect.high", ".0pp", "3"),
    ],
)
def test_what_was_recorded_is_quoted(name: str, spec: str, text: str) -> None:
    verdict = Verdict(HIGHER, EFFECT, "inconclusive")
    values: dict[str, Any] = {"share": 0.25, "loss": -0.0124, "count": 50000, "text": "thirty"}
    record("group", **values, effect=EFFECT, verdict=verdict)
    assert quote(f"group.{name}", spec) == text


def test_a_verdict_is_told_in_one_sentence() -> None:
    verdict = Verdict(HIGHER, EFFECT, "inconclusive")
    wording = {"estimated": "By how much is estimated, and not judged.", "not judged": "No."}
    estimate = dataclasses.replace(HIGHER, id="estimate", estimate=True, wording=wording)
    record("group", verdict=verdict, estimate=Verdict(estimate, EFFECT, "estimated"))
    effect = "+1.2 pp [−0.6 to +3.1]"
    assert quote("group.verdict.told") == f"{verdict.sentence.removesuffix('.')} ({effect})."
    expected = f"By how much is estimated at {effect}, and not judged."
    assert quote("group.estimate.told") == expected


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
    assert evidence_path("group") == home / "evidence" / "smoke" / "group.json"
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "full")
    with pytest.raises(KeyError, match=r"group\.share"):
        recall("group.share")


def test_an_unchanged_record_leaves_the_file_alone() -> None:
    record("group", share=0.25, effect=EFFECT)
    path = evidence_path("group")
    before = path.stat()
    record("group", share=0.25, effect=EFFECT)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    record("group", share=0.5, effect=EFFECT)
    assert path.stat().st_ino != before.st_ino
    assert recall("group.share") == 0.5


@pytest.mark.parametrize("value", [None, {"a": None}, [None], np.zeros(2), 1j])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    record("group", share=0.25)
    with pytest.raises(TypeError, match="a number, a text, an interval or a verdict"):
        record("group", share=0.5, other=value)
    assert recall("group.share") == 0.25


def test_a_record_is_json_that_other_programs_read() -> None:
    record("group", verdict=Verdict(HIGHER, EFFECT, "inconclusive"))
    content = json.loads(evidence_path("group").read_text("utf-8"))
    kept = content["verdict"]
    assert (kept["hypothesis"], kept["unit"], kept["n"]) == ("higher", "points", 3)
    assert kept["arms"] == ["without", "batch"]


def test_a_composed_verdict_is_quoted_like_any_other() -> None:
    record("claims", {"claim": {"word": "depends", "sentence": "So: depends."}})
    assert quote("claims.claim") == "depends"
    assert quote("claims.claim.sentence") == "So: depends."


def test_numbers_of_numpy_and_extents_are_recorded_and_quoted() -> None:
    record("group", share=np.float32(0.5), counts=[3, 5], seeds=np.int64(4))
    assert (recall("group.share"), recall("group.seeds")) == (0.5, 4)
    assert quote("group.counts") == "3 to 5"


def test_the_provenance_of_all_runs_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "smoke")
    here, there = made_up(Recipe()), made_up(Recipe(), 1)
    there = dataclasses.replace(there, provenance=made_with(device="gpu", seconds=2.0))
    record("group", runs=[here, there], share=0.25)
    assert recall("group.share") == 0.25
    found = recall("group.provenance")
    assert (found["device"], found["seconds"]) == (["cpu", "gpu"], 3.5)
    assert (found["profile"], found["data"]) == ("smoke", MADE["data"])
