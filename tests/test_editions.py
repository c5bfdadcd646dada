"""Ledgers over versions: what has held since when, and what changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bn_tutorial.evidence import editions
from bn_tutorial.evidence.editions import Edition, changes, since

from .histories import MADE


def ledger(day: int, keras: str = "3.14", **words: str) -> dict[str, Any]:
    """Return what a build's file would hold: claims with one part each."""
    made = {**MADE, "created": f"2026-01-{day:02}T00:00:00+00:00", "versions": {"keras": keras}}
    claims = [
        {
            "id": name,
            "number": 1,
            "statement": f"It is {name}.",
            "sentence": f"So: {word}.",
            "word": word,
            "parts": [
                {
                    "id": f"{name}-part",
                    "word": word,
                    "mean": 0.01 * day,
                    "low": 0.0,
                    "high": 0.02 * day,
                    "unit": "points",
                }
            ],
        }
        for name, word in words.items()
    ]
    return {"provenance": made | {"commit": f"c{day}", "profile": "standard"}, "claims": claims}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the ledgers of three versions."""
    kept = tmp_path / "released"
    kept.mkdir()
    for name, content in {
        "0.3.0": ledger(3, "3.15", big="supported", small="not supported"),
        "0.1.0": ledger(1, big="supported"),
        "0.2.0": ledger(2, big="not judged", small="supported"),
    }.items():
        (kept / f"{name}.json").write_text(json.dumps(content))
    return kept


def test_editions_stand_in_the_order_in_which_they_were_built(folder: Path) -> None:
    known = editions.editions(folder, folder / "nothing")
    assert [one.name for one in known] == ["0.1.0", "0.2.0", "0.3.0"]
    assert [one.word("big") for one in known] == ["supported", "not judged", "supported"]
    assert [one.effect("small-part") for one in known] == [
        "–",
        "+2.0 pp [0.0 to +4.0]",
        "+3.0 pp [0.0 to +6.0]",
    ]
    assert editions.editions(folder / "nowhere") == []


def test_the_reference_counts_if_it_is_younger_than_all_releases(
    folder: Path, tmp_path: Path
) -> None:
    reference = tmp_path / "reference.json"
    reference.write_bytes((folder / "0.3.0.json").read_bytes())
    assert len(editions.editions(folder, reference)) == 3
    reference.write_text(json.dumps(ledger(2, "3.13", big="contradicted")))
    assert editions.editions(folder, reference) == editions.editions(folder)
    reference.write_text(json.dumps(ledger(4, big="supported")))
    assert editions.editions(folder, reference)[-1].name == "reference"


def test_since_when_a_word_has_held(folder: Path) -> None:
    known = editions.editions(folder)
    for name, first in (("big", "0.1.0"), ("small", "0.3.0"), ("small-part", "0.3.0")):
        assert (found := since(known, name)) is not None
        assert found.name == first
    assert since(known, "unheard-of") is None
    assert since(known[:2], "big") is None


def test_changes_are_first_words_and_other_words(folder: Path) -> None:
    found = [
        (one.after.name, one.claim["id"], one.was, one.differs)
        for one in changes(editions.editions(folder))
    ]
    assert found == [
        ("0.1.0", "big", "not judged", []),
        ("0.2.0", "small", "not judged", []),
        ("0.3.0", "small", "supported", ["keras 3.15, and before 3.14"]),
    ]


def test_a_ledger_of_another_time_is_read_and_a_broken_one_is_named(folder: Path) -> None:
    content = ledger(4, big="supported")
    content["provenance"]["of another time"] = "unknown here"
    (folder / "0.4.0.json").write_text(json.dumps(content))
    assert [one.name for one in editions.editions(folder)][-1] == "0.4.0"
    (folder / "0.4.0.json").write_text("<<<<<<< ours")
    with pytest.raises(ValueError, match=r"0\.4\.0\.json is no ledger .* restore it"):
        editions.editions(folder)


def test_an_edition_knows_what_is_beyond_the_claims() -> None:
    content = ledger(4, big="supported")
    content["beyond"] = [content["claims"][0]["parts"][0] | {"id": "other"}]
    one = Edition.of("0.4.0", content)
    assert (one.word("other"), one.effect("other")) == ("supported", one.effect("big-part"))
    assert [change.claim["id"] for change in changes([one])] == ["big"]


def test_a_release_keeps_the_ledger_of_the_built_site(folder: Path, tmp_path: Path) -> None:
    built = tmp_path / "ledger.json"
    content = ledger(5, big="supported")
    built.write_text(json.dumps(content))
    target = editions.release(built, folder, "0.4.0", "c5")
    assert Edition.of("0.4.0", json.loads(target.read_text())).word("big") == "supported"
    with pytest.raises(ValueError, match=r"0\.4\.0 has its ledger already"):
        editions.release(built, folder, "0.4.0", "c5")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"commit": "abc-dirty"}, "commit all"),
        ({"commit": "unknown commit"}, "commit all"),
        ({"commit": None}, "commit all"),
        ({"data": {"digest": "0", "source": "sample", "sample": True}}, "judges nothing"),
        ({"commit": "0000000"}, "and this is"),
        ({"fetched": "archive 1234"}, "were computed elsewhere"),
    ],
)
def test_what_is_no_release_is_refused(
    changed: dict[str, Any], reason: str, folder: Path, tmp_path: Path
) -> None:
    content = ledger(5, big="supported")
    built = tmp_path / "ledger.json"
    built.write_text(json.dumps({**content, "provenance": content["provenance"] | changed}))
    with pytest.raises(ValueError, match=reason):
        editions.release(built, folder, "0.4.0", "c5")
    with pytest.raises(ValueError, match="build the site first"):
        editions.release(tmp_path / "nothing", folder, "0.4.0", "c5")
    for broken in ("{}", "[]", json.dumps({**content, "provenance": {}})):
        built.write_text(broken)
        with pytest.raises(ValueError, match="is no ledger"):
            editions.release(built, folder, "0.4.0", "c5")
    assert len([*folder.iterdir()]) == 3
