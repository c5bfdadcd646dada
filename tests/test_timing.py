from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import single, timing
from bn_tutorial.engines.single import History
from bn_tutorial.engines.timing import CALLS, steps, steps_without_xla
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.sweep import train

CONTESTANTS = {
    "train/none", "train/batch", "train/layer", "infer/none", "infer/batch", "infer/folded",
}  # fmt: skip
RECIPE = Recipe(width=8, depth=2, batch_size=16, epochs=4, train_size=80, validation=10)


@pytest.fixture(scope="module", autouse=True)
def images_on_the_device() -> Iterator[None]:
    """Free the images after this module's tests."""
    yield
    single._resident.cache_clear()


# Turns


def fake(name: str, log: list[str], *seconds: float) -> Callable[[], int]:
    """Return a contestant that takes so many seconds in its first, second … call."""

    def call() -> int:
        time.sleep(seconds[log.count(name)])
        log.append(name)
        return len(log)

    return call


def test_all_take_turns_in_changing_order() -> None:
    log: list[str] = []
    names = [str(index) for index in range(20)]
    contestants = {name: fake(name, log, *CALLS * [0.0]) for name in names}
    timing._round(contestants, np.random.default_rng(0))
    turns = [log[start : start + 20] for start in range(0, len(log), 20)]
    assert len(turns) == CALLS
    assert all(sorted(turn) == sorted(names) for turn in turns)
    assert turns[0] != turns[1]


def test_the_fastest_call_counts_and_the_last_result() -> None:
    log: list[str] = []
    late = (CALLS - 1) * [0.4]
    contestants = {"a": fake("a", log, *late, 0.1), "b": fake("b", log, 0.0, *late)}
    seconds, results = timing._round(contestants, np.random.default_rng(0))
    assert 0.1 <= seconds["a"] < 0.3
    assert seconds["b"] < 0.3
    assert {int(value) for value in results.values()} == {2 * CALLS - 1, 2 * CALLS}


# Steps


@pytest.fixture(scope="module")
def measured(tiny: Dataset) -> tuple[History, int]:
    rounds: list[None] = []
    return steps_without_xla(RECIPE, tiny, 0, lambda: rounds.append(None)), len(rounds)


def test_each_contestant_is_timed_in_each_round(measured: tuple[History, int]) -> None:
    history, rounds = measured
    assert rounds == 4
    assert {name for name in history if "/" in name} == CONTESTANTS
    for name in CONTESTANTS:
        assert len(history[name]) == 4
        assert all(0 < value < 1000 for value in history[name])  # milliseconds


def test_training_is_slower_than_prediction(measured: tuple[History, int]) -> None:
    history, _ = measured
    assert np.median(history["train/batch"]) > np.median(history["infer/batch"])


def test_a_time_is_of_one_step_in_milliseconds(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half_a_second(contestants: Any, random: Any) -> Any:
        results = {name: contestant() for name, contestant in contestants.items()}
        return dict.fromkeys(contestants, 0.5), results

    monkeypatch.setattr(timing, "_round", half_a_second)
    history = steps_without_xla(RECIPE.but(epochs=1, train_size=90), tiny, 0)
    for name in CONTESTANTS:
        assert history[name] == [100]  # 90 images are five batches of 16


def test_the_normalised_network_trains_and_is_folded(measured: tuple[History, int]) -> None:
    history, _ = measured
    assert history["loss"][-1] < history["loss"][0]
    assert len(history["accuracy"]) == 4
    assert 0 < history["val_loss"][0] < 10
    assert 0 <= history["val_accuracy"][0] <= 1
    assert 0 < history["difference"][0] < 1e-5  # rounding: they are two networks


def test_the_networks_are_those_of_the_recipe(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[tuple[str | None, int, bool]] = []

    class Program(single._Program):
        def __init__(self, recipe: Recipe, jit: bool, *rest: Any) -> None:
            built.append((recipe.norm, recipe.width, jit))
            super().__init__(recipe, False, *rest)

    monkeypatch.setattr(single, "_Program", Program)
    monkeypatch.setattr(timing, "_round", lambda contestants, _: ({}, {"train/batch": (0, 0)}))
    recipe = RECIPE.but(model="cnn", epochs=1)
    steps(recipe, tiny, 0)
    compiled = single.suits_xla(recipe)
    assert built == [(norm, 8, compiled) for norm in (None, "batch", "layer")]


def test_xla_compiles_dense_networks(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    jits: list[bool] = []
    monkeypatch.setattr(timing, "_time", lambda *_, jit: jits.append(jit))
    steps(RECIPE, tiny, 0)
    steps_without_xla(RECIPE, tiny, 0)
    assert jits == [True, False]


def test_times_are_stored(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPE.but(depth=1, epochs=2)
    (first,) = train(recipe, tiny, engine=steps)
    monkeypatch.setattr(timing, "_time", None)
    (again,) = train(recipe, tiny, engine=steps)
    assert again.history == first.history
    assert not first.diverged
    assert all(math.isfinite(value) for values in first.history.values() for value in values)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_normalised_recipe_is_refused(norm: str, tiny: Dataset) -> None:
    with pytest.raises(ValueError, match=f"norm='{norm}' is impossible"):
        steps(RECIPE.but(norm=norm), tiny, 0)
