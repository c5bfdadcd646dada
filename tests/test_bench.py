from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bn_tutorial.bench import floor, speed, unit
from bn_tutorial.bench.apart import apart
from bn_tutorial.bench.floor import EPSILON, FIRST, SECOND, epochs_of, operands, work
from bn_tutorial.bench.speed import Benchmark, Measurement, interleave
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook, single
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.provenance import Provenance


def silent(line: str) -> None:
    del line


class Clock:
    """A clock that stands still unless somebody takes their time, and notes who does."""

    def __init__(self) -> None:
        self.now, self.events = 100.0, list[str]()

    def __call__(self) -> float:
        return self.now

    def candidate(
        self,
        name: str,
        epochs: int = 3,
        *,
        first: float = 0.0,
        each: float = 0.0,
        last: float = 0.0,
    ) -> Iterator[int]:
        """Train for some epochs, of so many seconds each; the first and the end take more."""
        self.now += first
        try:
            for epoch in range(1, epochs + 1):
                self.now += each
                self.events.append(f"{name} {epoch}")
                yield epoch
            self.now += last
        finally:
            self.events.append(f"{name} ends")


# Taking turns.


def test_candidates_take_turns() -> None:
    clock = Clock()
    seconds = interleave({name: clock.candidate(name) for name in "abc"}, 3, silent, clock)
    assert clock.events == [
        *(f"{name} {epoch}" for epoch in (1, 2, 3) for name in "abc"),
        *(f"{name} ends" for name in "abc"),
    ]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_each_is_timed_by_itself_with_all_that_it_does() -> None:
    clock = Clock()
    slow = clock.candidate("slow", 2, first=0.5, each=0.25, last=2.0)
    fast = clock.candidate("fast", 2, each=0.125)
    seconds = interleave({"slow": slow, "fast": fast}, 2, silent, clock)
    assert seconds == {"slow": [0.75, 2.25], "fast": [0.125, 0.125]}


def test_progress_is_reported() -> None:
    clock, lines = Clock(), list[str]()
    interleave({name: clock.candidate(name, 2) for name in "ab"}, 2, lines.append, clock)
    assert lines == [f"epoch {epoch} of 2: a 0.00 s, b 0.00 s" for epoch in (1, 2)]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_of_one_is_raised_and_ends_all(error: BaseException) -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise error

    clock = Clock()
    candidates = {"good": clock.candidate("good"), "bad": fail(), "idle": clock.candidate("idle")}
    with pytest.raises(type(error)):
        interleave(candidates, 3, silent, clock)
    assert clock.events == ["good 1", "idle 1", "good 2", "idle ends", "good ends"]


def test_an_interrupt_between_epochs_ends_all() -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    clock = Clock()
    with pytest.raises(KeyboardInterrupt):
        interleave({"a": clock.candidate("a")}, 3, interrupt, clock)
    assert clock.events == ["a 1", "a ends"]


@pytest.mark.parametrize(("trains", "message"), [(2, "stopped before"), (4, "more than 3")])
def test_a_candidate_must_train_every_epoch_and_no_more(trains: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        interleave({"a": Clock().candidate("a", trains)}, 3, silent)


# The floor.


def numpy_work(
    operands: tuple[Any, ...], steps: int, rest: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Do what the floor does, and count the products."""
    batch, test, first, second = (operand.numpy().astype(np.float64) for operand in operands)
    products, total = 0, np.zeros_like(second)
    mean, square = np.zeros_like(first), np.zeros_like(first)
    for x in [batch] * steps + [batch[:rest]] * bool(rest):
        hidden = x @ first
        outputs = hidden @ second
        total += hidden.T @ outputs
        hidden_gradient = outputs @ second.T
        gradient = x.T @ hidden_gradient
        mean = FIRST * mean + (1 - FIRST) * gradient
        square = SECOND * square + (1 - SECOND) * gradient**2
        first = first - floor.RATE * mean / (np.sqrt(square) + EPSILON)
        products += 5
    return test @ first @ second, total, products + 2


@pytest.mark.parametrize(("size", "steps", "rest"), [(16, 6, 4), (50, 2, 0)])
def test_the_floor_does_all_products_and_passes(
    tiny: Dataset, size: int, steps: int, rest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floor, "RATE", 0.1)  # so that a pass left out would be seen
    assert divmod(len(tiny.x_train), size) == (steps, rest)
    given = operands(Recipe(batch_size=size), tiny)
    assert [tuple(one.shape) for one in given] == [
        (size, 3072), (40, 3072), (3072, 512), (512, 10),
    ]  # fmt: skip
    compiled = tf.function(work, jit_compile=True)
    outputs, total = compiled(*given, steps=steps, rest=rest)
    expected_outputs, expected_total, count = numpy_work(given, steps, rest)
    assert count == 5 * (steps + bool(rest)) + 2
    np.testing.assert_allclose(outputs, expected_outputs, rtol=0.01, atol=1e-3)
    np.testing.assert_allclose(total, expected_total, rtol=0.01, atol=1e-2)


def test_the_floors_numbers_neither_grow_nor_die_away(tiny: Dataset) -> None:
    given = operands(Recipe(batch_size=8), tiny)
    compiled = tf.function(work, jit_compile=True)
    sizes = [np.abs(compiled(*given, steps=steps, rest=0)[0]).mean() for steps in (100, 1500)]
    assert sizes[0] > 1e-3
    assert sizes[1] == pytest.approx(sizes[0], rel=0.5)


def test_xla_leaves_all_products_in_the_loop(tiny: Dataset) -> None:
    given = operands(Recipe(batch_size=32), tiny)
    compiled = tf.function(work, jit_compile=True)
    code = compiled.experimental_get_compiler_ir(*given, steps=20, rest=0)("optimized_hlo")
    counts = {
        part.split(None, 1)[0].split("_body")[0]: len(re.findall(r" (?:dot|custom-call)\(", part))
        for part in re.split(r"\n(?=\S)", code)
    }
    assert {name: count for name, count in counts.items() if count} == {"%while": 5, "ENTRY": 2}
    assert re.search(r'trip_count":\{"n":"20"', code)


def test_the_floor_trains_whole_epochs_of_the_data(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(*operands: Any, steps: int, rest: int) -> Any:
        asked.append((operands[0].shape[0], steps, rest))
        return tf.zeros(1), tf.zeros(1)

    monkeypatch.setattr(floor, "work", noted)
    monkeypatch.setattr(tf, "function", lambda function, jit_compile: function)
    for size in (32, 50):
        rows = epochs_of(operands(Recipe(batch_size=size), tiny), len(tiny.x_train), 2)
        assert len([*rows]) == 2
    assert asked == [*2 * [(32, 3, 4)], *2 * [(50, 2, 0)]]


# The unit.


def test_the_unit_is_six_runs_of_ten_epochs_with_all_cores(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(
        function: Any, recipes: list[Recipe], data: Dataset, threads: int
    ) -> list[list[float]]:
        assert (function, data, threads) == (unit.epochs, tiny, os.cpu_count())
        assert {recipe.epochs for recipe in recipes} == {2}
        assert [(recipe.norm, recipe.batch_size) for recipe in recipes] == [
            (None, 32), *(("batch", size) for size in (32, 64, 128, 256)),
        ]  # fmt: skip
        return [[10.0, 1.0], [10.0, 2.0], *3 * [[10.0, 0.0]]]

    monkeypatch.setattr(unit, "apart", timed)
    assert unit.unit(tiny) == 6 * 10 + 9 * (1 + 2 * 2)


def test_what_runs_apart_has_an_environment_of_its_own_and_may_print() -> None:
    assert apart(os.getenv, "TF_NUM_INTRAOP_THREADS", threads=3) == "3"
    assert apart(os.getenv, "COLOUR", threads=1, COLOUR="red") == "red"
    assert apart(print, "the answer is None", threads=1) is None
    assert apart(os.getpid, threads=1) != os.getpid()


# The whole.


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Replace both engines and the floor by some that only take their time."""
    clock = Clock()

    def fake(name: str, seconds: float) -> Any:
        def fit(bench: Workbench, recipe: Recipe, seed: int) -> Iterator[int]:
            clock.events.append(f"{name} with {recipe.label}, {len(benches)} benches")
            benches.add(bench)
            return clock.candidate(name, recipe.epochs, each=seconds)

        return fit

    benches: set[Workbench] = set()
    measured = speed.interleave
    monkeypatch.setattr(notebook, "fit", fake("notebook", 4.0))
    monkeypatch.setattr(single, "fit", fake("library", 2.0))
    monkeypatch.setattr(unit, "unit", lambda data, report: 17.0)
    monkeypatch.setattr(floor, "operands", lambda recipe, data: ())
    monkeypatch.setattr(
        floor, "epochs_of", lambda _, images, epochs: clock.candidate("floor", epochs, each=0.5)
    )
    monkeypatch.setattr(
        speed, "interleave", lambda one, epochs, report: measured(one, epochs, report, clock)
    )
    return clock


def test_what_is_measured_by_a_clock(tiny: Dataset, clock: Clock) -> None:
    first, second = speed.bench(tiny, (10, 20), 3).measurements
    assert first.seconds == {"notebook": 3 * [4.0], "library": 3 * [2.0], "floor": 3 * [0.5]}
    assert first.ratio("notebook", "library").median == 2
    assert second.ratio("library", "floor").total == 4
    # with the same bench as the notebook's, and for each size with another one
    assert [event for event in clock.events if "with" in event] == [
        "notebook with batch size 10, epochs 3, 0 benches",
        "library with batch size 10, epochs 3, 1 benches",
        "notebook with batch size 20, epochs 3, 1 benches",
        "library with batch size 20, epochs 3, 2 benches",
    ]


def test_ratios_are_computed_right() -> None:
    one = Measurement(None, 32, {"notebook": [9, 4, 8], "library": [3, 2, 2], "floor": [1, 1, 1]})
    ratio = one.ratio("notebook", "library")
    assert (ratio.total, ratio.median, ratio.low, ratio.high) == (3, 4, 2, 4)
    packed = one.asdict()
    assert packed["library_over_floor"] == {"total": 7 / 3, "median": 2, "low": 2, "high": 3}
    assert packed["contestants"]["notebook"] == {
        "total_seconds": 21,
        "median_epoch_seconds": 8,
        "epoch_seconds": [9, 4, 8],
    }


def test_one_row_for_each_network_and_batch_size(tiny: Dataset, clock: Clock) -> None:
    result = speed.bench(tiny, [50, 25, 50], 1, norms=(None, "batch", None))
    assert [(one.norm, one.batch_size) for one in result.measurements] == [
        (None, 50), (None, 25), ("batch", 50), ("batch", 25),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def real(tiny: Dataset) -> tuple[Benchmark, list[str]]:
    lines: list[str] = []
    return speed.bench(tiny, (32,), 2, report=lines.append), lines


def test_the_real_candidates(real: tuple[Benchmark, list[str]]) -> None:
    result, lines = real
    [one] = result.measurements
    assert {name: len(values) for name, values in one.seconds.items()} == {
        "notebook": 2, "library": 2, "floor": 2,
    }  # fmt: skip
    assert all(value > 0 for values in one.seconds.values() for value in values)
    assert [line.partition(":")[0] for line in lines] == [
        "baseline, batch size 32, epoch 1 of 2",
        "baseline, batch size 32, epoch 2 of 2",
        "the notebook, epochs 2",
        "the notebook, batch norm, epochs 2",
        *(f"the notebook, batch norm, batch size {size}, epochs 2" for size in (64, 128, 256)),
    ]
    assert result.unit > 0


def test_the_result_is_json_and_says_what_it_was_made_with(
    real: tuple[Benchmark, list[str]],
) -> None:
    content = json.loads(json.dumps(real[0].asdict()))
    assert set(content["measurements"][0]["contestants"]) == {"notebook", "library", "floor"}
    made = content["provenance"]
    assert set(made["versions"]) == {"python", "keras", "tensorflow", "numpy"}
    assert made["cores"] >= 1
    assert made["data"]["sample"] is False


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell")
def test_the_peak_memory_is_in_bytes(real: tuple[Benchmark, list[str]]) -> None:
    peak = real[0].peak_memory
    assert peak is not None
    assert 1e8 < peak < 1e11


def test_the_table_fits_a_terminal() -> None:
    measured = Measurement(
        "batch",
        256,
        {"notebook": [100.0, 123.4], "library": [25.0, 22.25], "floor": [9.9, 10.1]},
    )
    made = Provenance(
        data={"source": "npm", "digest": "0", "sample": False}, device="cpu", cores=2,
        versions={"keras": "3.14.0"}, created="2026-11-29T12:00:00+00:00",
    )  # fmt: skip
    result = Benchmark((measured,), 2, 912.3, made, 2_500_000_000)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(speed.table(result))
    shown = capture.get()
    assert "…" not in shown
    for text in (
        "batch norm",
        "256",
        "223.40",
        "47.25",
        "20.00",
        "4.73",
        "2.36",
        "2.5 GB",
        "912 s",
    ):
        assert text in shown
    assert "(4.00–5.55)" in shown
    assert "mean nothing" not in shown


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": ()}, "nothing to measure"),
        ({"norms": ()}, "nothing to measure"),
        ({"batch_sizes": (32, 0)}, "batch_size=0 is impossible"),
        ({"batch_sizes": (101,)}, "batch_size=101 is impossible: there are 100 training images."),
        ({"epochs": 0}, "epochs=0 is impossible"),
        ({"norms": ("layer",)}, "norm='layer' is impossible"),
    ],
)
def test_impossible_benchmarks_are_refused_at_once(
    changes: dict[str, Any], message: str, tiny: Dataset, clock: Clock
) -> None:
    with pytest.raises(ValueError, match=message):
        speed.bench(tiny, **changes)
    assert not clock.events
