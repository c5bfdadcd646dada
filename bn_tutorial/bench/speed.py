"""How long an epoch takes: the notebook's loop, the library's, and the matrix products alone.

The three take turns, epoch by epoch in one process, so that whatever else the machine does
hits them alike. All that each needs is counted: the notebook and the library make their
arrays, build, compile, train and validate; the matrix products are compiled.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook, single
from bn_tutorial.networks import backend
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.sweep import check_fits

#: Trains for some epochs and calls what it is given after each.
Contestant = Callable[[Callable[[], object]], object]


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as long one contestant takes as another.

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
    """The seconds of each contestant for one network and batch size.

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
        How many epochs each contestant trained.
    data : dict
        The ``source`` and ``digest`` of the images, and whether they are the ``sample``.
    device : str
        What trained.
    cores : int or None
        Processor cores of the machine.
    versions : dict of str to str
        Of Python, Keras, TensorFlow and NumPy.
    peak_memory : int or None
        The most memory, in bytes, that the process has held so far, all three contestants
        together; None where the system does not tell.
    """

    measurements: tuple[Measurement, ...]
    epochs: int
    data: dict[str, Any]
    device: str
    cores: int | None
    versions: dict[str, str]
    peak_memory: int | None

    def asdict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "measurements": [one.asdict() for one in self.measurements]}


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
    of the baseline, forward and backward, and of its validation, and nothing else.

    Parameters
    ----------
    data : Dataset
        The images.
    batch_sizes : iterable of int
        Each is measured by itself.
    epochs : int
        Epochs for each contestant.
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
        Recipe(norm=norm, batch_size=size, epochs=epochs)
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
        data={"source": data.source, "digest": data.digest, "sample": data.is_sample},
        device=backend.device(),
        cores=os.cpu_count(),
        versions={"python": ".".join(map(str, sys.version_info[:3])), **backend.versions()},
        peak_memory=_peak_memory(),
    )


def table(result: Benchmark) -> Table:
    """Return the benchmark as a table for the terminal."""
    memory = f", at most {result.peak_memory / 1e9:.1f} GB" if result.peak_memory else ""
    made_with = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    warning = "\nOn so few images these times mean nothing." if result.data["sample"] else ""
    found = Table(
        box=SIMPLE_HEAD,
        title=f"Seconds over {result.epochs} epochs, compilation and validation included",
        caption=f"{result.data['source']}; {result.device}, {result.cores} cores{memory}; {made_with}."
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
    # What an earlier measurement left compiled, or on the device, must be paid for again.
    single._program.cache_clear()
    single._resident.cache_clear()
    operands = _operands(recipe, data)
    steps, rest = divmod(len(data.x_train), recipe.batch_size)
    contestants: dict[str, Contestant] = {
        "notebook": lambda on_epoch: notebook.fit(recipe, data, 0, on_epoch),
        "library": lambda on_epoch: single.fit(recipe, data, 0, on_epoch),
        "floor": lambda on_epoch: _floor(operands, steps, rest, recipe.epochs, on_epoch),
    }
    name = f"{_network(recipe.norm)}, batch size {recipe.batch_size}"
    return Measurement(
        recipe.norm,
        recipe.batch_size,
        _contest(contestants, recipe.epochs, lambda line: report(f"{name}, {line}")),
    )


def _network(norm: str | None) -> str:
    return "baseline" if norm is None else f"{norm} norm"


# Taking turns.


def _contest(
    contestants: Mapping[str, Contestant], epochs: int, report: Callable[[str], object]
) -> dict[str, list[float]]:
    """Let the contestants train an epoch each in turn; return the seconds of every epoch."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    turns = {name: _Turns(name, train) for name, train in contestants.items()}
    try:
        for epoch in range(1, epochs + 1):
            for name, turn in turns.items():
                seconds[name].append(turn.next())
            latest = ", ".join(f"{name} {values[-1]:.2f} s" for name, values in seconds.items())
            report(f"epoch {epoch} of {epochs}: {latest}")
        for name, turn in turns.items():  # what comes after the last epoch belongs to it
            seconds[name][-1] += turn.next()
            if not turn.ended:
                raise RuntimeError(f"the {name} trains for more than {epochs} epochs.")
    finally:
        for turn in turns.values():
            turn.withdraw()
    return seconds


class _Turns:
    """A contestant in a thread of its own, which runs while `next` waits and at no other time."""

    def __init__(self, name: str, train: Contestant) -> None:
        self.name, self.train = name, train
        self.pool = ThreadPoolExecutor(max_workers=1)
        self.future: Future[object] | None = None
        self.begin, self.over = threading.Semaphore(0), threading.Semaphore(0)
        self.withdrawn = False

    @property
    def ended(self) -> bool:
        return self.future is not None and self.future.done()

    def next(self) -> float:
        """Run until the next epoch is over, or to the end; return the seconds it took."""
        if self.ended:
            raise RuntimeError(f"the {self.name} stopped before its last epoch.")
        started = time.perf_counter()
        if self.future is None:
            self.future = self.pool.submit(self.train, self._pause)
            self.future.add_done_callback(lambda _: self.over.release())
        else:
            self.begin.release()
        self.over.acquire()
        seconds = time.perf_counter() - started
        if self.future.done():
            self.future.result()  # raises what the contestant raised
        return seconds

    def _pause(self) -> None:
        self.over.release()
        self.begin.acquire()
        if self.withdrawn:
            raise SystemExit

    def withdraw(self) -> None:
        """End the thread; one that is in the middle of an epoch ends after it."""
        self.withdrawn = True
        self.begin.release()
        self.pool.shutdown()


# The floor.


def _floor(
    operands: Sequence[Any], steps: int, rest: int, epochs: int, on_epoch: Callable[[], object]
) -> None:
    products = tf.function(_products, jit_compile=True)
    for _ in range(epochs):
        for result in products(*operands, steps=steps, rest=rest):
            result.numpy()  # waits for the device
        on_epoch()


def _operands(recipe: Recipe, data: Dataset) -> tuple[Any, ...]:
    """Return a batch, the test images and both kernels, as random numbers.

    A batch and the second kernel of spectral norm 1 keep the numbers in `_products` from
    growing or dying away: NaN and denormal numbers may take another time.
    """
    random = np.random.default_rng(0)
    features = int(np.prod(data.x_train.shape[1:]))
    batch, test, first, second = (
        random.standard_normal(shape, dtype=np.float32)
        for shape in (
            (recipe.batch_size, features),
            (len(data.x_test), features),
            (features, recipe.width),
            (recipe.width, len(data.classes)),
        )
    )
    unit = (array / np.linalg.norm(array, 2) for array in (batch, second))
    return tuple(map(tf.constant, (next(unit), test, first, next(unit))))


def _products(batch: Any, test: Any, first: Any, second: Any, steps: int, rest: int) -> Any:
    """Do the matrix products of one epoch of the baseline and of its validation.

    XLA would take a product that is the same in every step out of the loop, and drop one
    that nobody reads. So the product in the place of the first kernel's gradient is the
    first kernel of the next step, that of the second kernel's gradient is summed, and what
    is returned depends on all of them. The sum, over as many numbers as the small second
    kernel has, is the only thing here that is no matrix product.
    """

    def step(x: Any, first: Any, total: Any) -> tuple[Any, Any]:
        hidden = x @ first
        outputs = hidden @ second  # stands for its own gradient
        total += tf.matmul(hidden, outputs, transpose_a=True)
        hidden_gradient = tf.matmul(outputs, second, transpose_b=True)
        return tf.matmul(x, hidden_gradient, transpose_a=True), total

    _, first, total = tf.while_loop(
        lambda index, *_: index < steps,
        lambda index, first, total: (index + 1, *step(batch, first, total)),
        (0, first, tf.zeros_like(second)),
    )
    if rest:
        first, total = step(batch[:rest], first, total)
    return test @ first @ second, total


def _peak_memory() -> int | None:
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, Linux KiB
