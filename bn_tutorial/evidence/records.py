"""What was found, on disk: recorded by experiments, quoted by pages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bn_tutorial import settings
from bn_tutorial.evidence.intervals import Interval, brief, write
from bn_tutorial.evidence.verdicts import Verdict
from bn_tutorial.settings import profile
from bn_tutorial.training.provenance import together
from bn_tutorial.training.runs import Run


def record(
    group: str,
    verdicts: Mapping[str, object] | None = None,
    /,
    *,
    runs: Iterable[Run] = (),
    **values: object,
) -> None:
    """Store what a page may quote, in place of what was stored for that group before.

    Parameters
    ----------
    group : str
        Usually the experiment, for instance ``"batch-norm"``.
    verdicts : mapping of str to Verdict, optional
        What `judge` returned; each is stored under its id.
    runs : iterable of Run
        All that was measured, each run once; their provenance and the profile are stored as
        ``provenance``, as ``computed`` how many ``runs`` there are, and how many of them were
        computed ``elsewhere`` and fetched; and as ``fetched``, for each by its name, whether it was.
    **values : float, int, str, Interval, Verdict, or dict or list of these
        By name.

    Raises
    ------
    TypeError
        If a value is of another type.
    StorageError
        If the storage folder cannot be written.
    """
    values = {**(verdicts or {}), **values}
    if runs := list(runs):
        made = together(run.provenance for run in runs)
        values["provenance"] = made.asdict() | {"profile": profile().name}
        values["fetched"] = fetched = {
            _name(run): run.provenance.fetched is not None for run in runs
        }
        values["computed"] = {"runs": len(fetched), "elsewhere": sum(fetched.values())}
    content = json.dumps(_pack(values), indent=1).encode()
    path = evidence_path(group)
    if not path.exists() or path.read_bytes() != content:  # an unchanged file makes no page stale
        settings.write(path, lambda file: file.write(content))


def _name(run: Run) -> str:
    """Return what tells a run from all others of a build: experiments may share some."""
    engine = str(run.provenance.engine).rpartition(".")[2]
    return f"{run.recipe.digest}-{run.seed}-{engine}"


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
        As for `recall`; or ``group.verdict.told`` for its sentence with the effect in it.
    spec : str
        As for `format`; ``.1pp`` gives percentage points of a share.

    Raises
    ------
    KeyError
        If nothing of that name is recorded.
    ValueError
        If the value cannot be written in that way.
    """
    verdict, _, told = name.rpartition(".")
    if told == "told":
        return _told(recall(verdict))
    found = recall(name)
    if isinstance(found, dict) and "word" in found:
        found = found["effect"] if spec else found["word"]
    if isinstance(found, list):  # the least and the most
        return " to ".join(write(value, spec) for value in found)
    if isinstance(found, dict):
        found = Interval(**{name: part for name, part in found.items() if name != "n"})
        return format(found, spec)
    return write(found, spec)


def _told(found: Mapping[str, Any]) -> str:
    """Return a verdict's sentence with the effect in it, or without if nothing was measured."""
    sentence: str = found["sentence"]
    mean, low, high = (found["effect"].get(end) for end in ("mean", "low", "high"))
    if not found["n"]:
        return sentence
    effect = brief(mean, low, high, found["unit"])
    if "is estimated" in sentence:
        return sentence.replace("is estimated", f"is estimated at {effect}", 1)
    return f"{sentence.removesuffix('.')} ({effect})."


def evidence_path(group: str) -> Path:
    """Return the file that holds a group's recorded values under the current profile."""
    first = settings.first_seed()
    folder = f"{profile().name}-from-{first}" if first else profile().name
    return settings.home() / "evidence" / folder / f"{group}.json"


def _pack(value: object) -> object:
    match value:
        case Verdict():
            return {
                "hypothesis": value.hypothesis.id,
                "unit": value.hypothesis.unit,
                "arms": value.hypothesis.arms,
                "word": value.word,
                "reason": value.reason,
                "counted": value.counted,
                "leans": value.leans,
                "chances": dict(value.chances),
                "repeats": value.repeats,
                "sentence": value.sentence,
                "effect": _pack(value.effect),
                "n": value.effect.n,
            }
        case Interval():
            return {**dataclasses.asdict(value), "n": value.n}
        case dict():
            return {name: _pack(part) for name, part in value.items()}
        case list() | tuple():
            return [_pack(part) for part in value]
        case np.generic():
            return value.item()
        case str() | int() | float():
            return value
    raise TypeError(
        f"evidence is a number, a text, an interval or a verdict (or several of them), not {value!r}."
    )
