"""Runs: what training leaves behind, in memory and on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bn_tutorial import settings
from bn_tutorial.recipe import Recipe

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """One trained network.

    Parameters
    ----------
    recipe : Recipe
        What was trained.
    seed : int
        With which seed.
    history : dict of str to list of float
        Each metric after each epoch.
    provenance : dict
        What it was computed with: ``data`` (digest and source), ``device``, ``versions``,
        ``engine``, ``seconds`` and ``created`` (UTC).
    """

    recipe: Recipe
    seed: int
    history: dict[str, list[float]]
    provenance: dict[str, Any]

    @property
    def diverged(self) -> bool:
        """Whether the loss stopped being finite; the history ends there."""
        return not all(
            math.isfinite(value) for name in ("loss", "val_loss") for value in self.history[name]
        )


class Runs:
    """A collection of runs, in the order in which they were asked for.

    Parameters
    ----------
    runs : iterable of Run
        The runs.
    """

    def __init__(self, runs: Iterable[Run] = ()) -> None:
        self._runs = tuple(runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __add__(self, other: Runs) -> Runs:
        return Runs((*self, *other))

    def __repr__(self) -> str:
        return f"<Runs: {len(self)} of {len(self.recipes)} recipes>"

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """The recipes, each once."""
        return tuple(dict.fromkeys(run.recipe for run in self))

    def of(self, recipe: Recipe) -> Runs:
        """Return the runs of one recipe, by seed.

        Raises
        ------
        KeyError
            If there is none.
        """
        found = sorted((run for run in self if run.recipe == recipe), key=lambda run: run.seed)
        if not found:
            raise KeyError(f"no run of the recipe “{recipe.label}”")
        return Runs(found)

    def final(self, metric: str) -> dict[int, float]:
        """Return a metric after the last epoch, for each seed; NaN where the run diverged.

        Raises
        ------
        ValueError
            If the runs are of several recipes.
        """
        if len(self.recipes) != 1:
            raise ValueError("final() takes the runs of one recipe: choose it with of(recipe).")
        return {run.seed: math.nan if run.diverged else run.history[metric][-1] for run in self}

    def curves(self, metric: str) -> npt.NDArray[np.float64]:
        """Return a metric's course, shape (runs, epochs); NaN after a run diverged."""
        longest = max(max(run.recipe.epochs, len(run.history[metric])) for run in self)
        curves = np.full((len(self), longest), np.nan)
        for row, run in zip(curves, self, strict=True):
            values = run.history[metric]
            row[: len(values)] = values
        return curves

    def frame(self) -> pd.DataFrame:
        """Return a tidy table: a row for each run and epoch.

        Returns
        -------
        pandas.DataFrame
            The recipe's fields, ``seed``, ``epoch`` (from 1), each metric, ``diverged``. What
            was measured once stands in the row of the last epoch.
        """
        import pandas as pd  # takes a second, which not every reader of runs needs

        return pd.DataFrame(
            [
                {
                    **run.recipe.asdict(),
                    "seed": run.seed,
                    "epoch": epoch,
                    **{
                        name: values[epoch - 1 - count]
                        for name, values in run.history.items()
                        if len(values) > count - epoch
                    },
                    "diverged": run.diverged,
                }
                for run in self
                for count in (len(run.history["loss"]),)
                for epoch in range(1, count + 1)
            ]
        )


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
        "provenance": run.provenance,
    }
    return json.dumps({"format": FORMAT, "checksum": _checksum(content), **content}, indent=1)


def _parse(text: str) -> Run:
    content = json.loads(text)
    if content.pop("format") != FORMAT:
        raise ValueError("another format")
    if content.pop("checksum") != _checksum(content):
        raise ValueError("its checksum does not fit")
    return Run(**{**content, "recipe": Recipe(**content["recipe"])})


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
