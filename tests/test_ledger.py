from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest

from bn_tutorial import evidence
from bn_tutorial.evidence import Interval, Verdict, brief, interval, ledger, record, registry
from bn_tutorial.evidence.registry import COMPOSED, Claim, Hypothesis
from bn_tutorial.evidence.verdicts import claim_chances

WORDING = {word: f"So: {word}." for word in COMPOSED}
JUDGED = {word: WORDING[word] for word in registry.JUDGED}


def hypothesis(name: str, experiment: str, **fields: Any) -> Hypothesis:
    basic = {"statement": f"It is {name}.", "effect": "height", "arms": ("without", "batch")}
    return Hypothesis(id=name, experiment=experiment, wording=JUDGED, **{**basic, **fields})


TALL = hypothesis("tall", "size")
WIDE = hypothesis("wide", "size", unit="ratio", direction=-1, primary=False)
HEAVY = hypothesis("heavy", "mass")
CLAIM = Claim(
    id="big",
    number=2,
    statement="It is big.",
    hypothesis="Big.",
    literature="Nobody knows.",
    sources=("someone",),
    parts=("tall", "wide", "heavy"),
    wording=WORDING,
)
SMALL = dataclasses.replace(CLAIM, id="small", number=1, parts=("heavy",))


@pytest.fixture(autouse=True)
def registered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "standard")
    everything = {one.id: one for one in (TALL, WIDE, HEAVY)}
    monkeypatch.setattr(ledger, "hypotheses", lambda: everything)
    monkeypatch.setattr(ledger, "claims", lambda: {"big": CLAIM, "small": SMALL})


def measure(experiment: str, **words: str) -> None:
    """Record verdicts as the experiment's script would."""
    one = {"tall": TALL, "wide": WIDE, "heavy": HEAVY}
    effect = Interval(0.03, 0.02, 0.04, (0.02, 0.04))
    record(experiment, {name: Verdict(one[name], effect, word) for name, word in words.items()})


def test_claims_stand_in_order_with_the_verdicts_that_were_recorded() -> None:
    measure("size", tall="supported", wide="not supported")
    measure("mass", heavy="supported")
    small, big = ledger.ledger()
    assert (small["id"], small["word"], small["sentence"]) == (
        "small",
        "supported",
        "So: supported.",
    )
    assert (big["id"], big["word"], big["sentence"]) == ("big", "depends", "So: depends.")
    tall, wide, _ = big["parts"]
    assert (tall["word"], tall["mean"], tall["low"], tall["n"]) == ("supported", 0.03, 0.02, 2)
    assert (wide["unit"], wide["direction"], wide["primary"]) == ("ratio", -1, False)
    assert tall["effect"] == "height"
    assert json.loads(json.dumps([small, big])) == [small, big]


def test_what_has_not_been_measured_is_not_judged() -> None:
    measure("size", tall="supported")
    small, big = ledger.ledger()
    assert small["word"] == "not judged"
    assert small["parts"][0]["reason"] == "its experiment has not been run"
    assert (small["parts"][0]["mean"], small["parts"][0]["n"]) == (None, 0)
    assert big["word"] == "supported"
    assert [part["word"] for part in big["parts"]] == ["supported", "not judged", "not judged"]


def test_a_number_that_json_cannot_write_becomes_none() -> None:
    effect = Interval(math.nan, math.nan, math.inf, (math.nan,))
    record("mass", {"heavy": Verdict(HEAVY, effect, "not judged", "a run diverged")})
    part = ledger.ledger()[0]["parts"][0]
    assert (part["mean"], part["low"], part["high"]) == (None, None, None)
    assert part["reason"] == "a run diverged"


def test_pages_can_quote_the_claims() -> None:
    measure("mass", heavy="contradicted")
    ledger.record_claims()
    assert evidence.quote("claims.small") == "contradicted"
    assert evidence.quote("claims.small.sentence") == "So: contradicted."


def test_the_table_has_a_row_for_each_claim_and_hypothesis() -> None:
    measure("size", tall="supported", wide="inconclusive")
    table = ledger.table(ledger.ledger())
    assert list(table["hypothesis"]) == ["heavy", "tall", "wide", "heavy"]
    assert list(table["number"]) == [1, 2, 2, 2]
    assert list(table["verdict"]) == ["not judged", "supported", "inconclusive", "not judged"]
    assert table["mean"][1] == 0.03


def test_a_replication_that_agrees_shows_no_disagreement() -> None:
    measure("size", tall="supported", wide="not supported")
    entries = ledger.ledger()
    assert ledger.disagreements(entries, entries) == []
    assert ledger.disagreements(entries, []) == []


def test_a_disagreement_says_what_was_found_and_what_differs() -> None:
    measure("size", tall="supported", wide="supported")
    reference = json.loads(json.dumps(ledger.ledger()))
    measure("size", tall="supported", wide="not supported")
    found = ledger.disagreements(ledger.ledger(), reference)
    assert [(one["id"], one["there"], one["here"]) for one in found] == [
        ("big", "supported", "depends"),
        ("wide", "supported", "not supported"),
    ]
    assert found[1]["statement"] == "It is wide."
    assert found[1]["differs"] == []
    for part in reference[1]["parts"]:
        part["device"] = "another"
    assert all(
        one["differs"] == ["device"] for one in ledger.disagreements(ledger.ledger(), reference)
    )


def test_a_replication_shows_both_effects_and_their_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    measure("size", tall="supported", wide="supported")
    measure("mass", heavy="supported")
    reference = json.loads(json.dumps(ledger.ledger()))
    monkeypatch.setenv("BN_TUTORIAL_SEEDS_FROM", "100")
    assert ledger.ledger()[0]["word"] == "not judged"  # other seeds have evidence of their own
    wider = Interval(0.05, 0.03, 0.07, (0.03, 0.07))
    record("mass", {"heavy": Verdict(HEAVY, wider, "inconclusive")})
    measure("size", tall="supported", wide="supported")
    found = ledger.replication(ledger.ledger(), reference)
    assert [*found["number"]] == [1, "", 2, "", "", ""]
    assert [*found["agree"]] == [False, False, True, True, True, False]
    heavy = found.iloc[1]
    assert (heavy["there"], heavy["here"]) == ("supported", "inconclusive")
    assert heavy["effect there"] == "+3.0 pp [+2.0 to +4.0]"
    assert heavy["pooled"] == brief(*pooled(0.02, 0.04, 0.03, 0.07), "points")
    assert [*found["pooled"]][3] == "–"  # the same values are the same runs


def test_primary_hypotheses_that_no_claim_rests_on_are_compared_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "claims", lambda: {"small": SMALL})
    measure("size", tall="supported", wide="supported")
    reference = json.loads(json.dumps(ledger.contents()))
    assert [one["id"] for one in reference["beyond"]] == ["tall"]  # the other one is secondary
    measure("size", tall="inconclusive", wide="supported")
    here = ledger.judged(ledger.contents())
    found = ledger.replication(here, ledger.judged(reference))
    assert [*found["id"]] == ["small", "heavy", "tall"]
    assert [*found["number"]] == [1, "", ""]
    assert [*found["agree"]] == [True, True, False]
    assert [one["id"] for one in ledger.disagreements(here, ledger.judged(reference))] == ["tall"]
    del reference["beyond"]  # as before there was any
    assert ledger.disagreements(here, ledger.judged(reference)) == []


def pooled(*values: float) -> tuple[float, float, float]:
    """Return mean and interval of all seeds."""
    found = interval(values)
    return found.mean, found.low, found.high


def test_chances_of_parts_make_those_of_a_claim() -> None:
    chances = {"supported": 0.8, "inconclusive": 0.2}
    parts = {name: {"word": "supported", "chances": chances} for name in CLAIM.parts}
    # of three parts at least two must be supported
    assert claim_chances(CLAIM, parts)["supported"] == pytest.approx(0.8**3 + 3 * 0.8**2 * 0.2)
    parts["wide"] = {"word": "not supported", "chances": {"not supported": 1.0}}
    found = claim_chances(CLAIM, parts)
    assert found["depends"] == pytest.approx(1 - 0.2**2)
    assert sum(found.values()) == pytest.approx(1)


def test_what_is_judged_in_one_build_only_is_no_disagreement() -> None:
    measure("mass", heavy="supported")
    reference = ledger.ledger()
    measure("mass", heavy="not judged")
    assert ledger.disagreements(ledger.ledger(), reference) == []
    assert ledger.disagreements(reference, ledger.ledger()) == []


@pytest.mark.parametrize(
    ("key", "one", "other", "differs"),
    [
        ("device", "cpu", "gpu", True),
        ("data", {"digest": "1", "source": "npm"}, {"digest": "1", "source": "store"}, False),
        ("data", {"digest": "1", "source": "npm"}, {"digest": "2", "source": "npm"}, True),
        ("versions", {"numpy": "1", "python": "3"}, {"numpy": "1"}, False),
        ("versions", {"numpy": "1", "python": "3"}, {"numpy": "2"}, True),
        ("data", None, None, False),
    ],
)
def test_builds_differ_by_images_and_versions_and_not_by_words(
    key: str, one: object, other: object, differs: bool
) -> None:
    def entries(word: str, of: object) -> list[dict[str, object]]:
        made = {**dict.fromkeys(ledger.PROVENANCE), key: of}
        part = {"id": "a", "statement": "A.", "word": word, **made}
        return [{**part, "parts": [part]}]

    (found,) = ledger.disagreements(entries("supported", one), entries("contradicted", other))
    assert found["differs"] == ([key] if differs else [])
