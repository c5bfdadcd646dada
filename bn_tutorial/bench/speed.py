"""How long an epoch takes: the notebook's loop, the library's, and what neither can do without.

The three take turns, epoch by epoch in one process, so that whatever else the machine does
hits them alike. All that each needs is counted: the notebook and the library make their
arrays, build, compile, train and validate; the floor is compiled. Each has one core, as every run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bn_tutorial.bench import floor, unit
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook, single
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.schedule import cores
from bn_tutorial.training.sweep import check_fits


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one candidate takes as another.

    Parameters
    ----------
    total : float
        Ratio of the seconds over all epochs, compilation included.
    median : float
        Ratio of the median seconds of an epoch.
    low, high : float
        The smallest and the largest ratio in any one epoch.
    """

    total: float
    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.total:.2f}\n({self.low:.2f}–{self.high:.2f})"


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The seconds of each candidate for one network and batch size.

    Parameters
    ----------
    norm : str or None
        The network: the baseline (None) or the one with batch normalisation.
    batch_size : int
        Images in a mini-batch.
    seconds : mapping of str to sequence of float
        For ``"notebook"``, ``"library"`` and ``"floor"``, the seconds of each epoch; the
        first includes all preparation.
    """

    norm: str | None
    batch_size: int
    seconds: Mapping[str, Sequence[float]]

    def ratio(self, slow: str, fast: str) -> Ratio:
        """Return how many times as long `slow` takes as `fast`."""
        one, other = self.seconds[slow], self.seconds[fast]
        each = [a / b for a, b in zip(one, other, strict=True)]
        return Ratio(
            total=sum(one) / sum(other),
            median=statistics.median(one) / statistics.median(other),
            low=min(each),
            high=max(each),
        )

    def asdict(self) -> dict[str, Any]:
        """Return the seconds and the ratios, ready for JSON."""
        return {
            "norm": self.norm,
            "batch_size": self.batch_size,
            "contestants": {
                name: {
                    "total_seconds": sum(values),
                    "median_epoch_seconds": statistics.median(values),
                    "epoch_seconds": list(values),
                }
                for name, values in self.seconds.items()
            },
            "notebook_over_library": dataclasses.asdict(self.ratio("notebook", "library")),
            "library_over_floor": dataclasses.asdict(self.ratio("library", "floor")),
        }


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """All measurements, and what they were made with.

    Parameters
    ----------
    measurements : tuple of Measurement
        One for each network and batch size.
    epochs : int
        How many epochs each candidate trained.
    provenance : Provenance
        What they were made with, the processor's cores included.
    unit : float
        The seconds of the notebook's six runs with all cores, `bn_tutorial.bench.unit.unit`.
    peak_memory : int or None
        The most memory, in bytes, that the process has held so far, all three candidates
        together; None where the system does not tell.
    """

    measurements: tuple[Measurement, ...]
    epochs: int
    unit: float
    provenance: Provenance
    peak_memory: int | None

    def asdict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "measurements": [one.asdict() for one in self.measurements],
            "epochs": self.epochs,
            "unit_seconds": self.unit,
            "provenance": self.provenance.asdict(),
            "peak_memory": self.peak_memory,
        }


def bench(
    data: Dataset,
    batch_sizes: Iterable[int] = (32, 256),
    epochs: int = 10,
    *,
    norms: Iterable[str | None] = (None,),
    report: Callable[[str], object] = lambda line: None,
) -> Benchmark:
    """Time the notebook's loop, the library's and the floor, in turns.

    The *notebook* is `bn_tutorial.engines.notebook.fit`; the *library* is `bn_tutorial.engines.single.fit`
    with all that it measures after an epoch; the *floor* is the matrix products of an epoch
    of the baseline, forward and backward, and of its validation, and Adam's passes over the weights.

    Parameters
    ----------
    data : Dataset
        The images.
    batch_sizes : iterable of int
        Each is measured by itself.
    epochs : int
        Epochs for each candidate.
    norms : iterable of None or "batch"
        Which of the notebook's networks.
    report : callable
        Is given a line of text after each epoch.

    Returns
    -------
    Benchmark
        Seconds, ratios and provenance.

    Raises
    ------
    ValueError
        If there is nothing to measure, or a batch size, the number of epochs or a norm is
        impossible. Nothing has been measured then.
    """
    recipes = [
        Recipe(batch_size=size, epochs=epochs).but(norm=norm)
        for norm in dict.fromkeys(norms)
        for size in dict.fromkeys(batch_sizes)
    ]
    if not recipes:
        raise ValueError("there is nothing to measure: give at least one norm and one batch size.")
    for recipe in recipes:
        if recipe.norm not in (None, "batch"):
            raise ValueError(
                f"norm={recipe.norm!r} is impossible: the notebook has None and 'batch'."
            )
        check_fits(recipe, data)
    return Benchmark(
        measurements=tuple(_measure(recipe, data, report) for recipe in recipes),
        epochs=epochs,
        unit=unit.unit(data, report),
        provenance=Provenance.here(data, cores=cores()),
        peak_memory=_peak_memory(),
    )


def table(result: Benchmark) -> Table:
    """Return the benchmark as a table for the terminal."""
    memory = f"; at most {result.peak_memory / 1e9:.1f} GB" if result.peak_memory else ""
    sample = result.provenance.is_sample
    warning = "\nOn so few images these times mean nothing." if sample else ""
    found = Table(
        box=SIMPLE_HEAD,
        title=f"Seconds over {result.epochs} epochs, compilation and validation included",
        caption=f"{result.provenance}{memory}."
        f"\nThe notebook's six runs, with all cores: {result.unit:.0f} s."
        "\nIn brackets: the median epoch, or the smallest and largest ratio of an epoch." + warning,
        caption_justify="left",
    )
    found.add_column("network")
    for heading in ("notebook", "library", "floor", "notebook /\nlibrary", "library /\nfloor"):
        found.add_column(heading, justify="right", overflow="fold")
    for one in result.measurements:
        found.add_row(
            f"{_network(one.norm)},\nbatch size {one.batch_size}",
            *(
                f"{sum(values):.2f}\n({statistics.median(values):.3g})"
                for values in (one.seconds[name] for name in ("notebook", "library", "floor"))
            ),
            str(one.ratio("notebook", "library")),
            str(one.ratio("library", "floor")),
        )
    return found


def _measure(recipe: Recipe, data: Dataset, report: Callable[[str], object]) -> Measurement:
    name = f"{_network(recipe.norm)}, batch size {recipe.batch_size}"
    # A bench of its own: what is compiled, or brought to the device, must be paid for each time.
    with Workbench(data) as bench:
        candidates = {
            "notebook": notebook.fit(bench, recipe, 0),
            "library": single.fit(bench, recipe, 0),
            "floor": floor.epochs_of(
                floor.operands(recipe, data), len(data.x_train), recipe.epochs
            ),
        }
        seconds = interleave(candidates, recipe.epochs, lambda line: report(f"{name}, {line}"))
    return Measurement(recipe.norm, recipe.batch_size, seconds)


def _network(norm: str | None) -> str:
    return "baseline" if norm is None else f"{norm} norm"


# Taking turns.


def interleave(
    candidates: Mapping[str, Iterator[object]],
    epochs: int,
    report: Callable[[str], object],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Let the candidates train an epoch each in turn.

    Parameters
    ----------
    candidates : mapping of str to iterator
        Each takes a step after each epoch, and does nothing before it is asked to.
    epochs : int
        How many they train.
    report : callable
        Is given a line of text after each epoch.
    clock : callable
        Tells the seconds.

    Returns
    -------
    dict of str to list of float
        The seconds of every epoch; what comes after the last one belongs to it.

    Raises
    ------
    RuntimeError
        If a candidate trains for fewer epochs, or for more.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}

    def advance(name: str) -> tuple[bool, float]:
        started = clock()
        ended = next(candidates[name], None) is None
        return ended, clock() - started

    with contextlib.ExitStack() as stack:
        for one in candidates.values():
            stack.callback(getattr(one, "close", lambda: None))
        for epoch in range(1, epochs + 1):
            for name, values in seconds.items():
                ended, needed = advance(name)
                if ended:
                    raise RuntimeError(f"the {name} stopped before its last epoch.")
                values.append(needed)
            latest = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items())
            report(f"epoch {epoch} of {epochs}: {latest}")
        for name, values in seconds.items():
            ended, needed = advance(name)
            if not ended:
                raise RuntimeError(f"the {name} trains for more than {epochs} epochs.")
            values[-1] += needed
    return seconds


def _peak_memory() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
