"""The ledger: each claim's verdict in this build, and how it compares with another build's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bn_tutorial.evidence.chances import repeats
from bn_tutorial.evidence.intervals import brief, exponential, interval
from bn_tutorial.evidence.records import recall, record
from bn_tutorial.evidence.registry import Hypothesis, claims, hypotheses
from bn_tutorial.evidence.verdicts import claim_chances, compose
from bn_tutorial.settings import profile

#: What two builds may differ in, beside their random seeds.
PROVENANCE = ("profile", "device", "versions", "data")


def ledger() -> list[dict[str, Any]]:
    """Return the claims with their verdicts, as the experiments of this profile recorded them.

    Returns
    -------
    list of dict
        For each claim, in their order, the fields of `bn_tutorial.evidence.registry.Claim` but for the
        wording, its ``word``, ``sentence`` and ``repeats`` (the probability that an independent build
        has that word), and as ``parts`` a dict for each hypothesis: the fields of
        `bn_tutorial.evidence.registry.Hypothesis`, ``word``, ``reason``, ``sentence``, ``repeats``,
        ``chances`` and ``leans`` of its `bn_tutorial.evidence.Verdict`, ``mean``, ``low`` and
        ``high`` in its unit (None where nothing could be measured), the interval's ``level``, its
        ``values`` and ``shared``, ``n``, and `PROVENANCE`. All of it can be written as JSON.
    """
    registered = hypotheses()
    entries = []
    for claim in claims().values():
        parts = {name: finding(registered[name]) for name in claim.parts}
        word = compose(claim, parts)
        chances = claim_chances(claim, parts)
        fields = dataclasses.asdict(claim)
        entries.append(
            {
                **{name: value for name, value in fields.items() if name != "wording"},
                "sources": list(claim.sources),
                "word": word,
                "sentence": claim.wording[word],
                "repeats": None if word == "not judged" else repeats(word, chances),
                "parts": list(parts.values()),
            }
        )
    return sorted(entries, key=lambda entry: entry["number"])


def beyond() -> list[dict[str, Any]]:
    """Return what was found of the primary hypotheses that no claim rests on.

    Returns
    -------
    list of dict
        For each, by experiment, what `ledger` has of the parts of claims.
    """
    counted = {name for claim in claims().values() for name in claim.parts}
    return [finding(one) for one in hypotheses().values() if one.primary and one.id not in counted]


def contents() -> dict[str, list[dict[str, Any]]]:
    """Return what a ledger's file holds: ``claims``, from `ledger`, and ``beyond`` them."""
    return {"claims": ledger(), "beyond": beyond()}


def judged(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the claims of a ledger's file, and then what is beyond them, if it knows of such.

    Raises
    ------
    KeyError
        If there are no claims: it is no ledger.
    """
    return [*content["claims"], *content.get("beyond", ())]


def record_claims() -> None:
    """Record the claims' verdicts, for pages to quote as ``claims.<id>`` and ``….sentence``.

    Raises
    ------
    StorageError
        If the storage folder cannot be written.
    """
    quoted = ("word", "sentence", "repeats")
    found = {
        entry["id"]: {name: entry[name] for name in quoted if entry[name] is not None}
        for entry in ledger()
    }
    record("claims", found)


def table(entries: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the ledger as a table with a row for each claim and hypothesis.

    Parameters
    ----------
    entries : iterable of dict
        From `ledger`.
    """
    columns = (
        *("mean", "low", "high", "level", "n", "repeats"),
        *("unit", "smallest", "direction", "primary"),
    )
    rows = [
        {
            "number": entry["number"],
            "claim": entry["id"],
            "claim_verdict": entry["word"],
            "claim_repeats": entry["repeats"],
            "hypothesis": part["id"],
            "statement": part["statement"],
            "verdict": part["word"],
            "reason": part["reason"],
            **{name: part[name] for name in columns},
            "experiment": part["experiment"],
            "profile": part["profile"],
            "device": part["device"],
        }
        for entry in entries
        for part in entry["parts"]
    ]
    return pd.DataFrame(rows)


def replication(
    entries: Iterable[Mapping[str, Any]], reference: Iterable[Mapping[str, Any]]
) -> pd.DataFrame:
    """Return how two builds' verdicts compare, on claims and on primary hypotheses.

    Parameters
    ----------
    entries, reference : iterable of dict
        From `judged`, of this and of the other build.

    Returns
    -------
    pandas.DataFrame
        A row for each claim, below it one for each of its parts, and one for each hypothesis beyond:
        ``number`` (of a claim), ``id``, ``there`` and ``here`` (the words), ``agree``, and of
        hypotheses ``effect there``, ``effect here`` and ``pooled``: the mean over the seeds of both,
        with its 95 % interval, as text; a dash where these are the same seeds.
    """
    theirs = by_id(reference)
    rows = []
    for entry in entries:
        for ours in (entry, *entry.get("parts", ())):
            other = theirs.get(ours["id"], {"word": "not judged"})
            row = {"number": ours.get("number", ""), "id": ours["id"]}
            row |= {"there": other["word"], "here": ours["word"]}
            row["agree"] = ours["word"] == other["word"]
            if "parts" not in ours:
                row |= {"effect there": effect(other), "effect here": effect(ours)}
                row["pooled"] = _pooled(ours, other)
            rows.append(row)
    return pd.DataFrame(rows).fillna("")


def effect(part: Mapping[str, Any]) -> str:
    """Return a part's effect with its interval as text, in its unit; a dash without one."""
    mean, low, high = (part.get(name) for name in ("mean", "low", "high"))
    return brief(mean, low, high, part.get("unit", "points"))


def _pooled(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Return the mean of the seeds of both builds, if these are other seeds in each."""
    values, others = (part.get("values") or () for part in (one, other))
    bounds = (part.get(name) for part in (one, other) for name in ("low", "high"))
    if len(values) < 2 or len(others) < 2 or set(values) & set(others) or None in bounds:
        return "–"
    both, shared = [*values, *others], max(part.get("shared") or 0.0 for part in (one, other))
    ratio = one["unit"] == "ratio"
    found = interval(np.log(both) if ratio else both, shared=shared)
    found = exponential(found) if ratio else found
    return brief(found.mean, found.low, found.high, one["unit"])


def disagreements(
    entries: Iterable[Mapping[str, Any]], reference: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return where the verdicts on claims and hypotheses differ from those of another build.

    What is not judged in one of the two is no disagreement.

    Parameters
    ----------
    entries, reference : iterable of dict
        From `judged`, of this and of the other build.

    Returns
    -------
    list of dict
        ``id``, ``statement``, ``here`` and ``there`` (the words), ``effect here`` and ``effect
        there`` (of a claim, a dash), and ``differs``: which of `PROVENANCE` are not the same.
    """
    theirs = by_id(reference)
    found = []
    for name, ours in by_id(entries).items():
        other = theirs.get(name)
        if other is None or "not judged" in (ours["word"], other["word"]):
            continue
        if ours["word"] != other["word"]:
            found.append(
                {
                    "id": name,
                    "statement": ours["statement"],
                    "here": ours["word"],
                    "there": other["word"],
                    "effect here": effect(ours),
                    "effect there": effect(other),
                    "differs": [key for key in PROVENANCE if _made_otherwise(ours, other, key)],
                }
            )
    return found


def by_id(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return entries, and the parts of claims, by their id."""
    return {one["id"]: one for entry in entries for one in (entry, *entry.get("parts", ()))}


def _made_otherwise(one: Mapping[str, Any], other: Mapping[str, Any], key: str) -> bool:
    """Return whether parts, or all parts of claims, have another provenance."""
    parts, others = ([part[key] for part in entry.get("parts", [entry])] for entry in (one, other))
    return len(parts) != len(others) or any(map(_differs, parts, others))


def _differs(one: Any, other: Any) -> bool:
    """Return whether data are others, or packages that both builds know have other versions."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return bool(one != other)
    known = ["digest"] if "digest" in one else one.keys() & other.keys()
    return any(one[name] != other.get(name) for name in known)


def finding(hypothesis: Hypothesis) -> dict[str, Any]:
    """Return a hypothesis and what its experiment found under this profile, as `ledger` has them."""
    fields = dataclasses.asdict(hypothesis)
    fields["arms"] = list(hypothesis.arms)
    wording = fields.pop("wording")
    unmeasured = {
        "word": "not judged",
        "reason": "its experiment has not been run",
        "sentence": wording["not judged"],
        "effect": {},
        "n": 0,
        "counted": "seed",
        "leans": False,
        "chances": {},
        "repeats": None,
    }
    try:
        found = recall(f"{hypothesis.experiment}.{hypothesis.id}")
    except KeyError:
        found = unmeasured
    try:
        made = recall(f"{hypothesis.experiment}.provenance")
    except KeyError:
        made = {"profile": profile().name}
    return {
        **fields,
        **{name: found[name] for name in _FOUND},
        **{
            name: _number(found["effect"].get(name))
            for name in ("mean", "low", "high", "level", "shared")
        },
        "values": [_number(value) for value in found["effect"].get("values", ())],
        **{name: made.get(name) for name in PROVENANCE},
    }


_FOUND = ("word", "reason", "sentence", "n", "counted", "leans", "chances", "repeats")


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
