from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bn_tutorial.bench import speed
from bn_tutorial.bench.speed import Benchmark, Contestant, Measurement
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import notebook, single
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe import Recipe

OnEpoch = Callable[[], object]


def silent(line: str) -> None:
    del line


# Taking turns.


def contestant(name: str, events: list[str], epochs: int = 3, seconds: float = 0.0) -> Contestant:
    def train(on_epoch: OnEpoch) -> None:
        for epoch in range(1, epochs + 1):
            events.append(f"{name} begins {epoch}")
            time.sleep(seconds)
            events.append(f"{name} ends {epoch}")
            on_epoch()

    return train


def test_contestants_take_turns_and_never_run_at_once() -> None:
    events: list[str] = []
    seconds = speed._contest(
        {name: contestant(name, events, seconds=0.02) for name in "abc"}, 3, silent
    )
    assert events == [
        f"{name} {what} {epoch}"
        for epoch in (1, 2, 3)
        for name in "abc"
        for what in ("begins", "ends")
    ]
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_each_is_timed_by_itself_with_all_that_it_does() -> None:
    def slow_to_start_and_to_end(on_epoch: OnEpoch) -> None:
        time.sleep(0.3)
        on_epoch()
        on_epoch()
        time.sleep(0.2)

    seconds = speed._contest(
        {"slow": slow_to_start_and_to_end, "fast": contestant("fast", [], epochs=2)}, 2, silent
    )
    assert seconds["slow"][0] >= 0.3
    assert seconds["slow"][1] >= 0.2
    assert sum(seconds["fast"]) < 0.2


def test_progress_is_reported() -> None:
    lines: list[str] = []
    speed._contest({name: contestant(name, [], epochs=2) for name in "ab"}, 2, lines.append)
    assert [line.partition(":")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    assert lines[0].startswith("epoch 1 of 2: a 0.0")


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_an_error_of_one_is_raised_and_ends_all(error: BaseException) -> None:
    def fail(on_epoch: OnEpoch) -> None:
        on_epoch()
        raise error

    before = threading.active_count()
    events: list[str] = []
    with pytest.raises(type(error)):
        speed._contest(
            {"good": contestant("good", events), "bad": fail, "idle": contestant("idle", events)},
            3,
            silent,
        )
    assert threading.active_count() == before
    assert "good ends 2" in events
    assert "good begins 3" not in events
    assert "idle begins 2" not in events


def test_an_interrupt_between_epochs_ends_all() -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    events: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        speed._contest({"a": contestant("a", events)}, 3, interrupt)
    assert threading.active_count() == before
    assert events == ["a begins 1", "a ends 1"]


@pytest.mark.parametrize(("trains", "message"), [(2, "stopped before"), (4, "more than 3")])
def test_a_contestant_must_train_every_epoch_and_no_more(trains: int, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        speed._contest({"a": contestant("a", [], epochs=trains)}, 3, silent)


# The floor.


def numpy_products(
    operands: tuple[Any, ...], steps: int, rest: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """Do what the floor does, and count the products of each."""
    batch, test, first, second = (operand.numpy().astype(np.float64) for operand in operands)
    products, total = 0, np.zeros_like(second)
    for x in [batch] * steps + [batch[:rest]] * bool(rest):
        hidden = x @ first
        outputs = hidden @ second
        total += hidden.T @ outputs
        hidden_gradient = outputs @ second.T
        first = x.T @ hidden_gradient
        products += 5
    return test @ first @ second, total, products + 2


@pytest.mark.parametrize(("size", "steps", "rest"), [(16, 6, 4), (50, 2, 0)])
def test_the_floor_does_all_products(tiny: Dataset, size: int, steps: int, rest: int) -> None:
    assert divmod(len(tiny.x_train), size) == (steps, rest)
    operands = speed._operands(Recipe(batch_size=size), tiny)
    assert [tuple(one.shape) for one in operands] == [
        (size, 3072), (40, 3072), (3072, 512), (512, 10),
    ]  # fmt: skip
    compiled = tf.function(speed._products, jit_compile=True)
    outputs, total = compiled(*operands, steps=steps, rest=rest)
    expected_outputs, expected_total, products = numpy_products(operands, steps, rest)
    assert products == 5 * (steps + bool(rest)) + 2
    np.testing.assert_allclose(outputs, expected_outputs, rtol=0.01, atol=1e-3)
    np.testing.assert_allclose(total, expected_total, rtol=0.01, atol=1e-2)


def test_the_floors_numbers_neither_grow_nor_die_away(tiny: Dataset) -> None:
    operands = speed._operands(Recipe(batch_size=8), tiny)
    compiled = tf.function(speed._products, jit_compile=True)
    sizes = [np.abs(compiled(*operands, steps=steps, rest=0)[0]).mean() for steps in (100, 1500)]
    assert sizes[0] > 1e-3
    assert sizes[1] == pytest.approx(sizes[0], rel=0.5)


def test_the_floors_time_grows_with_the_steps(tiny: Dataset) -> None:
    operands = speed._operands(Recipe(batch_size=32), tiny)
    compiled = tf.function(speed._products, jit_compile=True)

    def seconds(steps: int) -> float:
        def once() -> float:
            started = time.perf_counter()
            for result in compiled(*operands, steps=steps, rest=0):
                result.numpy()
            return time.perf_counter() - started

        once()  # compiles
        return min(once() for _ in range(3))

    assert seconds(320) > 4 * seconds(20)  # sixteen times, if nothing were to disturb it


def test_the_floor_trains_whole_epochs_of_the_data(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    floors: list[tuple[Any, ...]] = []

    def floor(operands: Any, steps: int, rest: int, epochs: int, on_epoch: OnEpoch) -> None:
        floors.append((operands[0].shape[0], steps, rest, epochs))
        contestant("floor", [], epochs)(on_epoch)

    use_fakes(monkeypatch)
    monkeypatch.setattr(speed, "_floor", floor)
    speed.bench(tiny, (32, 50), 2)
    assert floors == [(32, 3, 4, 2), (50, 2, 0, 2)]


# The whole.


def use_fakes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Recipe, int]]:
    """Replace both engines and the floor by sleepers; return what is compiled at each start."""
    starts: list[tuple[str, Recipe, int]] = []

    def fake(name: str, seconds: float) -> Any:
        def fit(recipe: Recipe, data: Dataset, seed: int, on_epoch: OnEpoch) -> None:
            starts.append((name, recipe, single._program.cache_info().currsize))
            contestant(name, [], recipe.epochs, seconds)(on_epoch)

        return fit

    def floor(operands: Any, steps: int, rest: int, epochs: int, on_epoch: OnEpoch) -> None:
        contestant("floor", [], epochs, 0.02)(on_epoch)

    monkeypatch.setattr(notebook, "fit", fake("notebook", 0.18))
    monkeypatch.setattr(single, "fit", fake("library", 0.06))
    monkeypatch.setattr(speed, "_floor", floor)
    monkeypatch.setattr(
        speed, "_operands", lambda recipe, data: (tf.zeros((recipe.batch_size, 1)),)
    )
    return starts


def test_ratios_of_sleepers(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = use_fakes(monkeypatch)
    single._program(Recipe(width=2), False, (32, 32, 3), 10)  # something compiled before
    [one] = speed.bench(tiny, (10,), 3).measurements
    assert one.ratio("notebook", "library").median == pytest.approx(3, rel=0.3)
    assert one.ratio("library", "floor").median == pytest.approx(3, rel=0.3)
    recipe = Recipe(batch_size=10, epochs=3)
    assert starts == [("notebook", recipe, 0), ("library", recipe, 0)]


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


def test_one_row_for_each_network_and_batch_size(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_fakes(monkeypatch)
    result = speed.bench(tiny, [50, 25, 50], 1, norms=(None, "batch", None))
    assert [(one.norm, one.batch_size) for one in result.measurements] == [
        (None, 50), (None, 25), ("batch", 50), ("batch", 25),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def real(tiny: Dataset) -> tuple[Benchmark, list[str]]:
    lines: list[str] = []
    return speed.bench(tiny, (32,), 2, report=lines.append), lines


def test_the_real_contestants(real: tuple[Benchmark, list[str]]) -> None:
    result, lines = real
    [one] = result.measurements
    assert {name: len(values) for name, values in one.seconds.items()} == {
        "notebook": 2, "library": 2, "floor": 2,
    }  # fmt: skip
    assert all(value > 0 for values in one.seconds.values() for value in values)
    for name in ("library", "floor"):  # the notebook compiles too little to tell it from noise
        assert one.seconds[name][0] > one.seconds[name][1]  # the first epoch compiles
    assert [line.partition(":")[0] for line in lines] == [
        "baseline, batch size 32, epoch 1 of 2",
        "baseline, batch size 32, epoch 2 of 2",
    ]


def test_the_result_is_json_and_says_what_it_was_made_with(
    real: tuple[Benchmark, list[str]],
) -> None:
    content = json.loads(json.dumps(real[0].asdict()))
    assert set(content["versions"]) == {"python", "keras", "tensorflow", "numpy"}
    assert content["epochs"] == 2
    assert content["device"]
    assert content["cores"] >= 1
    assert content["data"]["sample"] is False
    assert set(content["measurements"][0]["contestants"]) == {"notebook", "library", "floor"}


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
    result = Benchmark(
        (measured,), 2, {"source": "npm", "digest": "0", "sample": False}, "cpu", 2,
        {"keras": "3.14.0"}, 2_500_000_000,
    )  # fmt: skip
    console = Console(width=80)
    with console.capture() as capture:
        console.print(speed.table(result))
    shown = capture.get()
    assert "…" not in shown
    for text in ("batch norm", "256", "223.40", "47.25", "20.00", "4.73", "2.36", "2.5 GB"):
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
    changes: dict[str, Any], message: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = use_fakes(monkeypatch)
    with pytest.raises(ValueError, match=message):
        speed.bench(tiny, **changes)
    assert not starts
