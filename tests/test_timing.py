from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import timing
from bn_tutorial.engines.program import Program, suits_xla
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.timing import CALLS, steps, steps_without_xla, take_turns
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks.backend import tf
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.sweep import train
from tests.benches import run

CANDIDATES = {
    "train/none", "train/batch", "train/layer", "infer/none", "infer/batch", "infer/folded",
}  # fmt: skip
RECIPE = Recipe(width=8, depth=2, batch_size=16, epochs=4, train_size=80, validation=10)


# Turns


class Clock:
    """A clock that stands still unless somebody takes their time."""

    def __init__(self) -> None:
        self.now, self.log = 100.0, list[str]()

    def __call__(self) -> float:
        return self.now

    def candidate(self, name: str, *seconds: float) -> Callable[[], int]:
        """Return one that takes so many seconds in its first, second … call."""
        times = itertools.cycle(seconds)

        def call() -> int:
            self.now += next(times)
            self.log.append(name)
            return len(self.log)

        return call


def test_all_take_turns_in_changing_order() -> None:
    clock, names = Clock(), [str(index) for index in range(20)]
    candidates = {name: clock.candidate(name, 0.0) for name in names}
    take_turns(candidates, np.random.default_rng(0), clock)
    turns = [clock.log[start : start + 20] for start in range(0, len(clock.log), 20)]
    assert len(turns) == CALLS
    assert all(sorted(turn) == sorted(names) for turn in turns)
    assert turns[0] != turns[1]


def test_the_fastest_call_counts_and_the_last_result() -> None:
    clock, late = Clock(), (CALLS - 1) * [0.5]
    candidates = {
        "a": clock.candidate("a", *late, 0.25),
        "b": clock.candidate("b", 0.125, *late),
    }
    seconds, results = take_turns(candidates, np.random.default_rng(0), clock)
    assert seconds == {"a": 0.25, "b": 0.125}
    assert {int(value) for value in results.values()} == {2 * CALLS - 1, 2 * CALLS}


# Steps


@pytest.fixture(scope="module")
def measured(bench: Workbench) -> History:
    return run(steps_without_xla, bench, RECIPE)


def test_each_candidate_is_timed_in_each_round(measured: History) -> None:
    assert {name for name in measured if "/" in name} == CANDIDATES
    for name in CANDIDATES:
        assert len(measured[name]) == 4
        assert all(0 < value < math.inf for value in measured[name])


def test_a_time_is_of_one_step_in_milliseconds(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_a_second(candidates: Any, random: Any) -> Any:
        results = {name: candidate() for name, candidate in candidates.items()}
        return dict.fromkeys(candidates, 0.5), results

    monkeypatch.setattr(timing, "take_turns", half_a_second)
    history = run(steps_without_xla, bench, RECIPE.but(epochs=1, train_size=90))
    for name in CANDIDATES:
        assert history[name] == [100]  # 90 images are five batches of 16


def test_a_candidate_does_what_its_name_says(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}

    def call(candidates: Any, random: Any) -> Any:
        seen.update(candidates)
        return {}, {"train/batch": (0, 0)}

    monkeypatch.setattr(timing, "take_turns", call)
    run(steps_without_xla, bench, RECIPE.but(epochs=1))
    for norm in (None, "batch", "layer"):
        model = bench.program(RECIPE.but(norm=norm), jit=False).model
        before = model.layers[1].kernel.numpy()
        loss, accuracy = seen[f"train/{norm or 'none'}"]()
        assert 0 < loss < 10
        assert 0 <= accuracy <= 1
        assert not np.array_equal(model.layers[1].kernel, before)
    outputs = {name: seen[f"infer/{name}"]().numpy() for name in ("none", "batch", "folded")}
    assert {output.shape for output in outputs.values()} == {(5, 16, 10)}
    # the first images in place of the training images, as there are but ten for validation
    images = bench.data.draw(0, RECIPE.train_size, 10).x_test[np.arange(80) % 10] / np.float32(255)
    model = bench.program(RECIPE, jit=False).model
    np.testing.assert_allclose(outputs["none"].reshape(80, 10), model(images), rtol=1e-4)


def test_the_normalised_network_trains_and_is_folded(measured: History) -> None:
    assert measured["loss"][-1] < measured["loss"][0]
    assert len(measured["accuracy"]) == 4
    for name in ("val_loss", "val_accuracy", "difference"):
        assert len(measured[name]) == 1
    assert 0 < measured["val_loss"][0] < 10
    assert 0 <= measured["val_accuracy"][0] <= 1
    assert 0 < measured["difference"][0] < 1e-5  # rounding: they are two networks


class Noting(Workbench):
    """A bench that notes which programs it is asked for."""

    asked: list[tuple[str | None, int, bool | None]]

    def program(self, recipe: Recipe, *, jit: bool | None = None) -> Program:
        self.asked.append((recipe.norm, recipe.width, jit))
        return super().program(recipe, jit=False)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_the_networks_are_those_of_the_recipe(
    model: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = dict.fromkeys(CANDIDATES, (0, 0))
    monkeypatch.setattr(timing, "take_turns", lambda *_: (dict.fromkeys(CANDIDATES, 1), results))
    recipe = RECIPE.but(model=model, epochs=1)
    with Noting(tiny) as bench:
        for engine, compiled in ((steps_without_xla, False), (steps, suits_xla(recipe))):
            bench.asked = []
            monkeypatch.setattr(timing, "_predicting", plain_predictions)
            run(engine, bench, recipe)
            assert bench.asked == [(norm, 8, compiled) for norm in (None, "batch", "layer")]


def plain_predictions(models: Any, batches: Any, jit: bool) -> Any:
    """Stand in for compiled predictions."""
    outputs = np.full((*batches.shape[:2], 10), 0.1)
    return {f"infer/{name}": lambda: tf.constant(outputs) for name in models}


def test_xla_compiles_dense_networks() -> None:
    assert suits_xla(RECIPE)


def test_times_are_stored(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.but(depth=1, epochs=2)
    (first,) = train(recipe, tiny, engine=steps)
    monkeypatch.setattr(timing, "take_turns", None)
    (again,) = train(recipe, tiny, engine=steps)
    assert again.history == first.history
    assert not first.diverged
    assert all(math.isfinite(value) for values in first.history.values() for value in values)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_normalised_recipe_is_refused(norm: str, bench: Workbench) -> None:
    with pytest.raises(ValueError, match=f"norm='{norm}' is impossible"):
        run(steps, bench, RECIPE.but(norm=norm))
