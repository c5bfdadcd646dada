"""Runs on disk, each in a file that is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bn_tutorial import settings
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run, Runs

FORMAT = 2


class RunStore:
    """Runs on disk, one JSON file each, named by what the run was computed from.

    Parameters
    ----------
    folder : Path or None
        Where; None means ``runs`` in the storage folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or settings.home() / "runs"

    @property
    def fetched(self) -> RunStore:
        """The store of the runs that were fetched, within this one's folder.

        Their keys are those of `bn_tutorial.training.archive.key_of`.
        """
        return RunStore(self.folder / "fetched")

    def path(self, key: str) -> Path:
        """Return where the run of that key is, or would be, kept."""
        return self.folder / f"{key}.json"

    def get(self, key: str) -> Run | None:
        """Return a run, or None if it is not stored.

        A file that is truncated, edited by hand or of another format is set aside (if the
        folder can be written) with a warning, and counts as not stored.
        """
        try:
            text = self.path(key).read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, UnicodeDecodeError):
            self._set_aside(key, "cannot be read")
            return None
        try:
            return parse(text)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self._set_aside(key, f"is not a run of this version ({error})")
            return None

    def _set_aside(self, key: str, reason: str) -> None:
        try:
            settings.set_aside(self.path(key), reason)
        except settings.StorageError as error:
            warnings.warn(f"{key}.json in {self.folder} {reason}; {error}", stacklevel=3)

    def put(self, key: str, run: Run) -> None:
        """Store a run.

        Raises
        ------
        StorageError
            If the folder cannot be written or the disk is full.
        """
        settings.write(self.path(key), lambda file: file.write(text_of(run).encode()))

    def keys(self) -> list[str]:
        """Return the keys of what is stored."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def items(self) -> Iterator[tuple[str, Run]]:
        """Yield all that is stored, with its keys."""
        for key in self.keys():
            if run := self.get(key):
                yield key, run

    def runs(self) -> Runs:
        """Return all that is stored; what was fetched is in another store."""
        return Runs(run for _, run in self.items())

    def digest(self) -> str:
        """Return a digest of all that is stored; empty if nothing is."""
        total = hashlib.sha256()
        for key in self.keys():
            total.update(key.encode() + self.path(key).read_bytes())
        return total.hexdigest() if self.keys() else ""

    def clear(self) -> int:
        """Delete all runs, fetched ones too, and what was set aside; return how many were its own.

        Raises
        ------
        StorageError
            If a file cannot be deleted.
        """
        count = len(self.keys())
        settings.remove(self.folder)
        return count


def text_of(run: Run) -> str:
    """Return a run as the text of its file."""
    content = {
        "recipe": run.recipe.asdict(),
        "seed": run.seed,
        "history": run.history,
        "provenance": run.provenance.asdict(),
    }
    return json.dumps({"format": FORMAT, "checksum": _checksum(content), **content}, indent=1)


def parse(text: str) -> Run:
    """Return the run of a file's text.

    Raises
    ------
    ValueError, KeyError, TypeError, AttributeError or RecursionError
        If the text is no such file, or has another format or checksum.
    """
    content = json.loads(text)
    if content.pop("format") != FORMAT:
        raise ValueError("another format")
    if content.pop("checksum") != _checksum(content):
        raise ValueError("its checksum does not fit")
    content["recipe"] = Recipe(**content["recipe"])
    content["provenance"] = Provenance(**content["provenance"])
    return Run(**content)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
