"""What an engine yields, row by row, and how it becomes a history."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from bn_tutorial.recipe import Recipe

if TYPE_CHECKING:
    from bn_tutorial.engines.program import Workbench

#: What is measured after an epoch, by name.
Row = dict[str, float]
History = dict[str, list[float]]
E = TypeVar("E", bound="Callable[..., Iterator[Row]]")


class Engine(Protocol):
    """What trains one network: `bn_tutorial.engines.single.fit`, or what can replace it."""

    __name__: str
    __qualname__: str

    def __call__(self, bench: Workbench, recipe: Recipe, seed: int, /) -> Iterator[Row]:
        """Train one network; yield a row after each epoch (or each point that it measures).

        What is measured once is in the last row. Whether the run diverges is the business of
        whoever collects the rows.
        """


def takes(cores: float) -> Callable[[E], E]:
    """Say how many cores an engine takes, if it is not one.

    Parameters
    ----------
    cores : float
        Infinity means that nothing else may be trained meanwhile.

    Returns
    -------
    callable
        A decorator for engines.
    """

    def note(engine: E) -> E:
        engine.cores = cores  # type: ignore[attr-defined]
        return engine

    return note


def collect(rows: Iterable[Row]) -> History:
    """Collect what an engine yields, until it ends or diverges.

    Parameters
    ----------
    rows : iterable of dict of str to float
        What an `Engine` returns. It is closed after a row with a loss that is not finite.

    Returns
    -------
    dict of str to list of float
        The values of each name, in order.
    """
    history: History = {}
    for row in rows:
        append(history, row)
        if diverged(row):
            break
    if isinstance(rows, Generator):
        rows.close()
    return history


def collect_each(rows: Iterable[tuple[int, Row]], seeds: Iterable[int]) -> dict[int, History]:
    """Collect the rows of several networks, of each until it ends or diverges.

    Parameters
    ----------
    rows : iterable of (int, dict of str to float)
        What `bn_tutorial.engines.lockstep.fit_together` returns: rows, each with its seed. It is
        closed when all networks have diverged.
    seeds : iterable of int
        The seeds.

    Returns
    -------
    dict of int to (dict of str to list of float)
        The history of each seed.
    """
    histories: dict[int, History] = {seed: {} for seed in seeds}
    going = set(histories)
    for seed, row in rows:
        if seed in going:
            append(histories[seed], row)
            if diverged(row):
                going.remove(seed)
        if not going:
            break
    if isinstance(rows, Generator):
        rows.close()
    return histories


def append(history: History, row: Row) -> None:
    """Append a row to a history."""
    for name, value in row.items():
        history.setdefault(name, []).append(value)


def diverged(row: Row) -> bool:
    """Return whether a row's ``loss`` or ``val_loss``, if it has them, is not finite."""
    return not all(math.isfinite(row.get(name, 0)) for name in ("loss", "val_loss"))


def numbered(values: Mapping[str, Any]) -> Row:
    """Return scalars as they are, and each value of a vector as ``name/0``, ``name/1`` and so on."""
    row: Row = {}
    for name, value in values.items():
        array = np.asarray(value)
        if array.ndim == 0:
            row[name] = float(array)
        else:
            row |= {f"{name}/{index}": float(one) for index, one in enumerate(array)}
    return row
