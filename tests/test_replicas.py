from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import replicas, single
from bn_tutorial.engines.replicas import compare, separate, separate_by_class, synchronised
from bn_tutorial.engines.single import METRICS, TEST_METRICS, epoch_order, fit, scaling
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.sweep import train

RECIPE = Recipe(
    width=8,
    depth=2,
    norm="batch",
    optimizer="sgd",
    learning_rate=0.1,
    batch_size=16,
    epochs=2,
    train_size=48,
    validation=20,
)
GHOST = RECIPE.but(norm="ghost", norm_options={"size": 8})
#: Batches of 16 and of 13 images, which are dealt as 8 + 8 and 7 + 6.
RAGGED = RECIPE.but(train_size=45)


@pytest.fixture(scope="module", autouse=True)
def process() -> Iterator[None]:
    """End the process with the replicas after this module's tests; free programs and images."""
    yield
    replicas.stop()
    single._program.cache_clear()
    single._resident.cache_clear()


# Equal to one device


@pytest.mark.parametrize("recipe", [RECIPE, RAGGED])
def test_synchronised_is_one_batch(tiny: Dataset, recipe: Recipe) -> None:
    found = compare(recipe, tiny, seed=1)
    assert len(found["loss"]) == 6
    for name in ("loss", "update", "moving", "averaged", "output"):
        assert max(found[f"{name}/synchronised batch"]) < 1e-4, name
        assert max(found[f"{name}/by class batch"]) < 1e-4, name
    assert min(found["update/synchronised ghost"]) > 0.1
    assert max(found["replicas/synchronised"]) == 0


def test_separate_is_ghost_batches_but_for_the_moving_statistics(tiny: Dataset) -> None:
    found = compare(RECIPE, tiny, seed=1)
    for name in ("loss", "update", "averaged"):
        assert max(found[f"{name}/separate ghost"]) < 1e-4, name
    assert min(found["update/separate batch"]) > 0.1
    for name in ("moving/separate ghost", "output/separate ghost", "replicas/separate"):
        assert max(found[name]) > 1e-3, name


@pytest.mark.parametrize(("replicated", "one"), [(synchronised, RECIPE), (separate, GHOST)])
def test_a_whole_training(tiny: Dataset, replicated: Any, one: Recipe) -> None:
    epochs: list[int] = []
    found = replicated(RECIPE, tiny, 0, lambda: epochs.append(1))
    alone = fit(one, tiny, 0)
    assert len(epochs) == RECIPE.epochs
    assert set(found) == {*METRICS, *TEST_METRICS}
    for name in ("loss", "val_loss_population", "test_loss_population"):
        assert found[name] == pytest.approx(alone[name], rel=1e-3), name
    same = found["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-4)
    assert same == (replicated is synchronised)


def test_dealt_by_class(tiny: Dataset) -> None:
    (images, labels), _, _ = single._resident(tiny, RECIPE.train_size, RECIPE.validation)
    orders = [epoch_order(0, 0, 48)[start : start + 16] for start in (0, 16, 32)]
    by_class = [order[np.argsort(labels.numpy()[order], kind="stable")] for order in orders]
    pixels = scaling(RECIPE, tiny)
    mine = replicas._on_replicas(RECIPE, tiny, 0, orders, synchronized=False, by_class=True)
    program = replicas._program(GHOST, tiny)
    ghosts = replicas._take(program, GHOST, (images, labels), pixels, 0, by_class)
    assert [step.loss for step in mine] == pytest.approx([step.loss for step in ghosts], rel=1e-4)
    chance = replicas._on_replicas(RECIPE, tiny, 0, orders, synchronized=False)
    assert [step.loss for step in mine] != pytest.approx([step.loss for step in chance], rel=1e-4)


def test_it_is_stored(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    once = train(RECIPE, tiny, engine=separate_by_class)
    monkeypatch.setattr(replicas, "_process", None)
    again = train(RECIPE, tiny, engine=separate_by_class)
    assert [run.history for run in once] == [run.history for run in again]


def test_divergence_ends_the_history(tiny: Dataset) -> None:
    found = synchronised(RECIPE.but(learning_rate=1e30, epochs=3), tiny, 0)
    assert len(found["loss"]) < 3


# The other process


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (RECIPE.but(norm=None), r"^norm=None is impossible on replicas: it must be 'batch'\.$"),
        (RECIPE.but(batch_size=15), r"^batch_size=15 is impossible .* a multiple of 2"),
        (RECIPE.but(train_size=49), r"^train_size=49 is impossible .* at least 2 images\.$"),
    ],
)
@pytest.mark.parametrize("one", [synchronised, compare])
def test_what_cannot_be_dealt_is_refused(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, one: Any, recipe: Recipe, message: str
) -> None:
    monkeypatch.setattr(replicas, "_process", None)  # not even started
    with pytest.raises(ValueError, match=message):
        one(recipe, tiny, 0)


def test_it_says_why_the_other_process_broke_down(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    another = functools.cache(replicas._process.__wrapped__)
    monkeypatch.setattr(replicas, "_process", another)
    monkeypatch.setattr(replicas, "_SCRIPT", "raise SystemExit('no devices')")
    with pytest.raises(RuntimeError, match=r"replicas broke down: no devices$"):
        separate(RECIPE, tiny, 0)
    assert not another.cache_info().currsize  # the next training starts one


def test_an_interrupt_ends_it(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    separate(RECIPE, tiny, 0)
    process, _ = replicas._process()
    assert process.poll() is None

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pickle.load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            separate(RECIPE, tiny, 0)
    assert process.poll() is not None


# What the pages say of Keras's own `fit`


def test_what_fit_does_on_two_replicas() -> None:
    script = Path(__file__).with_name("keras_replicas.py")
    answer = subprocess.run([sys.executable, script], check=True, capture_output=True, text=True)
    found = json.loads(answer.stdout)
    assert found["dealt"] == [11, 10]
    assert found["fit"] == pytest.approx(found["mean of means"], abs=1e-4)
    assert found["fit"] != pytest.approx(found["mean of images"], abs=1e-2)
    together, apart = found["synchronised"], found["separate"]
    assert together["left over"]
    assert not apart["left over"]  # a replica without an image makes the weights NaN
    assert together["replicas"][0] == together["replicas"][1] == together["saved"]
    assert apart["replicas"][1] != apart["replicas"][0] == apart["saved"]
    assert together["difference"] < 1e-5
    assert apart["difference"] > 0.01
