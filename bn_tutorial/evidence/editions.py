"""Ledgers over versions: those that were kept, what has held since which, and what changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bn_tutorial import settings
from bn_tutorial.evidence.ledger import by_id, effect, judged
from bn_tutorial.training.provenance import Provenance

UNJUDGED = "not judged"


@dataclasses.dataclass(frozen=True)
class Edition:
    """The ledger of one build.

    Parameters
    ----------
    name : str
        The version that it was released with, or what else it is called.
    made : Provenance
        What it was built with, when, and from which commit.
    entries : dict of str to dict
        Each claim and each hypothesis, by its id, as `bn_tutorial.evidence.ledger` has them.
    """

    name: str
    made: Provenance
    entries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, name: str, content: Mapping[str, Any]) -> Edition:
        """Return the edition of a ledger's file: its ``provenance``, and what it judges."""
        known = {field.name for field in dataclasses.fields(Provenance)}
        made = {field: value for field, value in content["provenance"].items() if field in known}
        return cls(name, Provenance(**made), by_id(judged(content)))

    def word(self, name: str) -> str:
        """Return the verdict on a claim or a part; ``not judged`` if there is none."""
        return str(self.entries.get(name, {}).get("word", UNJUDGED))

    def effect(self, name: str) -> str:
        """Return the effect of a part as text; a dash if it has none, or is not known."""
        found = self.entries.get(name)
        return effect(found) if found else "–"


def editions(folder: Path, reference: Path | None = None) -> list[Edition]:
    """Return the ledgers that were kept, the oldest first.

    Parameters
    ----------
    folder : Path
        Holds one of each release, named by its version; it need not exist.
    reference : Path, optional
        The ledger of the reference build. It counts if it is younger than all releases: another
        one will take its place, and what a release has changed should stay what it was.

    Raises
    ------
    ValueError
        If a file is no ledger.
    """
    found = [_read(path, path.stem) for path in folder.glob("*.json")]
    found.sort(key=lambda one: one.made.created)
    if reference is not None and reference.is_file():
        last = _read(reference, "reference")
        if all(one.made.created < last.made.created for one in found):
            found.append(last)
    return found


def _read(path: Path, name: str) -> Edition:
    try:
        return Edition.of(name, json.loads(path.read_text("utf-8")))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no ledger ({error}): restore it from the history.") from error


def since(known: Sequence[Edition], name: str) -> Edition | None:
    """Return since which edition a claim or a part has had the word that it has in the last one.

    Editions that do not judge it are passed over; None if the last one does not judge it.
    """
    word = known[-1].word(name)
    if word == UNJUDGED:
        return None
    first = known[-1]
    for one in reversed(known):
        if one.word(name) == word:
            first = one
        elif one.word(name) != UNJUDGED:
            break
    return first


@dataclasses.dataclass(frozen=True)
class Change:
    """A claim that got another word.

    Parameters
    ----------
    claim : dict
        As it stands in the ledger of the later edition.
    before, after : Edition
        With the last word and with the new one; ``before`` is None where it is the first word.
    """

    claim: Mapping[str, Any]
    before: Edition | None
    after: Edition

    @property
    def was(self) -> str:
        """The word before."""
        return self.before.word(self.claim["id"]) if self.before else UNJUDGED

    @property
    def differs(self) -> list[str]:
        """In what the two builds differ: ``keras 3.15.1, and before 3.14.0``."""
        if self.before is None:
            return []
        then, now = (
            {"device": one.made.device, "profile": one.made.profile, **one.made.versions}
            for one in (self.before, self.after)
        )
        return [
            f"{name} {value}, and before {then[name]}"
            for name, value in now.items()
            if name in then and value != then[name]
        ]


def changes(known: Iterable[Edition]) -> list[Change]:
    """Return each claim's first word and each change of it, in the order of the editions.

    Parameters
    ----------
    known : iterable of Edition
        The oldest first.
    """
    last: dict[str, Edition] = {}
    found = []
    for one in known:
        for name, entry in one.entries.items():
            word = one.word(name)
            if "parts" not in entry or word == UNJUDGED:
                continue
            before = last.get(name)
            if before is None or before.word(name) != word:
                found.append(Change(entry, before, one))
            last[name] = one
    return found


def release(ledger: Path, folder: Path, version: str, commit: str) -> Path:
    """Keep the ledger of a built site as that of a version.

    Parameters
    ----------
    ledger : Path
        The ``ledger.json`` beside its pages.
    folder : Path
        Where those of the releases are.
    version : str
        The version.
    commit : str
        What is checked out: the site must have been built from it.

    Returns
    -------
    Path
        The new file.

    Raises
    ------
    ValueError
        If there is no such ledger, it was built from the sample, from fetched runs, from a changed
        checkout or from another commit, or the version has one already. Nothing was written then.
    StorageError
        If the folder cannot be written.
    """
    target = folder / f"{version}.json"
    if target.exists():
        raise ValueError(f"{version} has its ledger already ({target}): a release is not changed.")
    try:
        text = ledger.read_text("utf-8")
        made = Edition.of(version, json.loads(text)).made
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(f"{ledger} is no ledger ({error}): build the site first.") from error
    if made.is_sample:
        raise ValueError("a ledger from the sample judges nothing: build the profile standard.")
    if made.fetched:
        raise ValueError(
            f"its results were computed elsewhere ({made.archives}): build the site with --retrain."
        )
    if not made.commit or str(made.commit).endswith(("-dirty", "unknown commit")):
        raise ValueError(f"it was built from {made.commit}: commit all, and build the site again.")
    if made.commit != commit:
        raise ValueError(f"it was built from {made.commit}, and this is {commit}: build it again.")
    settings.write(target, lambda file: file.write(text.encode()))
    return target
