from __future__ import annotations

import dataclasses
import math
import tomllib
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from bn_tutorial.evidence import power, registry
from bn_tutorial.evidence.registry import (
    COMPOSED,
    ESTIMATED,
    JUDGED,
    WORDS,
    Hypothesis,
    claims,
    hypotheses,
)

NAN = math.nan
HIGHER = Hypothesis(
    id="higher",
    experiment="trial",
    statement="It is higher.",
    effect="height",
    arms=["without", "batch"],
    wording={word: f"So: {word}." for word in JUDGED},
)


def test_every_hypothesis_is_complete() -> None:
    known = {field.name for field in dataclasses.fields(Hypothesis)} - {"id", "experiment"}
    written = {}
    for file in resources.files("bn_tutorial.evidence").joinpath("hypotheses").iterdir():
        tables = tomllib.loads(file.read_text("utf-8"))
        assert tables, file.name
        for name, table in tables.items():
            written[name] = file.name.removesuffix(".toml")
            assert set(table) <= known, name
    assert {name: one.experiment for name, one in hypotheses().items()} == written
    assert {"batch-norm", "batch-size"} <= set(written.values())
    for name, one in hypotheses().items():
        assert one.id == name
        sentences = [one.statement, *one.wording.values()]
        assert all(isinstance(text, str) for text in (*sentences, one.effect, *one.arms)), name
        assert all(sentence.endswith((".", ".)", "?")) for sentence in sentences), name
        assert len(set(one.wording.values())) == len(ESTIMATED if one.estimate else JUDGED), name
        assert one.effect
        assert isinstance(one.primary, bool)


def test_the_assignment_s_primary_hypotheses() -> None:
    found = {one.id for one in hypotheses().values() if one.primary}
    assert {"hidden", "better-network"} <= found
    assert not {"fits-faster", "jagged", "notebook-curve", "inputs-alone"} & found


def test_what_is_planned_is_enough() -> None:
    """The power that a plan gives is that of its effect, its spread and its seeds."""
    families = Counter(one.experiment for one in hypotheses().values() if one.primary)
    for name, one in hypotheses().items():
        if one.plan and not one.estimate:
            found = power(one, one.plan, families[one.experiment])
            assert found == pytest.approx(one.plan.power, abs=0.01), name
            assert found >= (0.97 if one.primary else 0.9), name


def test_what_is_primary_is_planned() -> None:
    unplanned = [one.id for one in hypotheses().values() if one.primary and not one.plan]
    assert not unplanned


def test_a_claim_rests_on_primary_hypotheses() -> None:
    for claim in claims().values():
        assert all(hypotheses()[part].primary for part in claim.parts), claim.id


def test_claims_are_complete() -> None:
    assert [claim.number for claim in claims().values()] == list(range(1, 10))
    for name, claim in claims().items():
        assert claim.id == name
        sentences = [claim.statement, claim.hypothesis, *claim.wording.values()]
        assert all(sentence.endswith((".", ".)")) for sentence in sentences), name
        assert len(set(claim.wording.values())) == len(COMPOSED), name
        assert claim.literature
        assert claim.sources


def test_claims_rest_on_registered_hypotheses() -> None:
    for name, claim in claims().items():
        assert set(claim.parts) <= set(hypotheses()), name


def test_what_a_hypothesis_need_not_say() -> None:
    assert (HIGHER.unit, HIGHER.smallest, HIGHER.direction, HIGHER.primary) == (
        "points", 0.01, 1, True,
    )  # fmt: skip
    ratio = dataclasses.replace(HIGHER, unit="ratio", smallest=NAN)
    assert ratio.smallest == 1.25
    assert dataclasses.replace(HIGHER, arms="batch").arms == ("batch",)
    assert HIGHER.arms == ("without", "batch")


@pytest.mark.parametrize(
    "change",
    [
        {"arms": []},
        {"arms": ["batch", "batch"]},
        {"arms": ["none", "batch", "layer"]},
        {"unit": "percent"},
        {"unit": "number", "smallest": NAN},
        {"smallest": math.inf},
        {"unit": "ratio", "smallest": 0.0},
        {"direction": 0},
        {"wording": {"supported": "Yes."}},
        {"wording": dict.fromkeys(WORDS, "Yes.")},
    ],
)
def test_an_impossible_hypothesis_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{list(change)[-1]}"):
        dataclasses.replace(HIGHER, **change)


WORDING = "".join(f'"{word}" = "{word}."\n' for word in JUDGED)
TABLE = '[{}]\nstatement = "s."\neffect = "e"\narms = ["a", "b"]\n{}[{}.wording]\n' + WORDING


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (TABLE.format("x", "direction = 2\n", "x"), r"^b\.toml, \[x\]: direction=2"),
        (TABLE.format("x", "efect = 1\n", "x"), r"^b\.toml, \[x\]: .*unexpected.*'efect'"),
        (TABLE.format("x", 'smallest = "a"\n', "x"), r"^b\.toml, \[x\]: must be real"),
        (TABLE.format("x", 'unit = "number"\n', "x"), r"^b\.toml, \[x\]: smallest=nan"),
        ('[y]\narms = "a"', r"^b\.toml, \[y\]: .*missing.*'statement'"),
        ("y = 1", r"^b\.toml, \[y\]: .*mapping"),
        ("[y", r"^b\.toml: Expected"),
        (TABLE.format("first", "", "first"), r"^first is registered in b\.toml and elsewhere"),
    ],
)
def test_an_error_in_a_file_says_where(tmp_path: Path, text: str, error: str) -> None:
    (tmp_path / "a.toml").write_text(TABLE.format("first", "primary = false\n", "first"))
    (tmp_path / "notes.txt").write_text("[")
    found = registry._hypotheses(tmp_path)["first"]
    assert (found.experiment, found.primary) == ("a", False)
    (tmp_path / "b.toml").write_text(text)
    with pytest.raises(ValueError, match=error):
        registry._hypotheses(tmp_path)
