"""Runs on disk, each in a file that is written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import warnings
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
            return _parse(text)
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
        settings.write(self.path(key), lambda file: file.write(_text(run).encode()))

    def keys(self) -> list[str]:
        """Return the keys of what is stored."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.json"))

    def runs(self) -> Runs:
        """Return all that is stored."""
        return Runs(run for key in self.keys() if (run := self.get(key)))

    def clear(self) -> int:
        """Delete all runs, and what was set aside; return how many runs there were.

        Raises
        ------
        StorageError
            If a file cannot be deleted.
        """
        count = len(self.keys())
        settings.remove(self.folder)
        return count


def _text(run: Run) -> str:
    content = {
        "recipe": run.recipe.asdict(),
        "seed": run.seed,
        "history": run.history,
        "provenance": run.provenance.asdict(),
    }
    return json.dumps({"format": FORMAT, "checksum": _checksum(content), **content}, indent=1)


def _parse(text: str) -> Run:
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
