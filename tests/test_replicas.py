from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import replica_process, replicas, single
from bn_tutorial.engines.batches import epoch_order
from bn_tutorial.engines.replica_process import ReplicaProcess
from bn_tutorial.engines.replicas import (
    compare,
    on_one_device,
    on_replicas,
    separate,
    separate_by_class,
    synchronised,
)
from bn_tutorial.engines.single import METRICS, TEST_METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.sweep import train
from tests.benches import Roomy, fit, run

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


@pytest.fixture(scope="module")
def bench(tiny: Dataset) -> Iterator[Workbench]:
    """A bench whose process with the replicas ends after this module's tests."""
    with Roomy(tiny) as bench:
        yield bench


def process_of(bench: Workbench) -> ReplicaProcess:
    return bench.keep(replicas.__name__, None, ReplicaProcess)


# Equal to one device


@pytest.mark.parametrize("recipe", [RECIPE, RAGGED])
def test_synchronised_is_one_batch(bench: Workbench, recipe: Recipe) -> None:
    found = run(compare, bench, recipe, 1)
    assert len(found["loss"]) == 6
    for name in ("loss", "update", "moving", "averaged", "output"):
        assert max(found[f"{name}/synchronised batch"]) < 1e-4, name
        assert max(found[f"{name}/by class batch"]) < 1e-4, name
    assert min(found["update/synchronised ghost"]) > 0.1
    assert max(found["replicas/synchronised"]) == 0


def test_separate_is_ghost_batches_but_for_the_moving_statistics(bench: Workbench) -> None:
    found = run(compare, bench, RECIPE, 1)
    for name in ("loss", "update", "averaged"):
        assert max(found[f"{name}/separate ghost"]) < 1e-4, name
    assert min(found["update/separate batch"]) > 0.1
    for name in ("moving/separate ghost", "output/separate ghost", "replicas/separate"):
        assert max(found[name]) > 1e-3, name


@pytest.mark.parametrize(("replicated", "one"), [(synchronised, RECIPE), (separate, GHOST)])
def test_a_whole_training(bench: Workbench, replicated: Any, one: Recipe) -> None:
    found, alone = run(replicated, bench, RECIPE), fit(bench, one)
    assert set(found) == set(alone) >= {*METRICS, *TEST_METRICS}
    assert {len(found[name]) for name in METRICS} == {RECIPE.epochs}
    assert {len(found[name]) for name in TEST_METRICS} == {1}
    for name in ("loss", "val_loss_population", "test_loss_population"):
        assert found[name] == pytest.approx(alone[name], rel=1e-3), name
    same = found["val_loss"] == pytest.approx(alone["val_loss"], rel=1e-4)
    assert same == (replicated is synchronised)


def test_dealt_by_class(bench: Workbench) -> None:
    labels = bench.resident(RECIPE, 0)[0][1].numpy()
    orders = [epoch_order(0, 0, 48)[start : start + 16] for start in (0, 16, 32)]
    by_class = [order[np.argsort(labels[order], kind="stable")] for order in orders]
    mine = on_replicas(bench, RECIPE, 0, orders, synchronized=False, by_class=True)
    ghosts = on_one_device(bench, GHOST, 0, by_class)
    assert [step.loss for step in mine] == pytest.approx([step.loss for step in ghosts], rel=1e-4)
    chance = on_replicas(bench, RECIPE, 0, orders, synchronized=False)
    assert [step.loss for step in mine] != pytest.approx([step.loss for step in chance], rel=1e-4)


def test_it_is_stored(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    once = train(RECIPE, tiny, engine=separate_by_class)
    monkeypatch.setattr(ReplicaProcess, "ask", None)
    again = train(RECIPE, tiny, engine=separate_by_class)
    assert [run.history for run in once] == [run.history for run in again]


def test_divergence_ends_the_history(bench: Workbench) -> None:
    found = run(synchronised, bench, RECIPE.but(learning_rate=1e30, epochs=3))
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
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, one: Any, recipe: Recipe, message: str
) -> None:
    monkeypatch.setattr(ReplicaProcess, "ask", None)  # not even asked
    with pytest.raises(ValueError, match=message):
        run(one, bench, recipe)


def test_it_says_why_the_other_process_broke_down(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_process, "SCRIPT", "raise SystemExit('no devices')")
    with Workbench(tiny) as bench:
        with pytest.raises(RuntimeError, match=r"replicas broke down: no devices$"):
            run(separate, bench, RECIPE)
        assert process_of(bench).process is None  # the next training starts one


def test_an_interrupt_ends_it(bench: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    run(separate, bench, RECIPE)
    process = process_of(bench).process
    assert process is not None
    assert process.poll() is None

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pickle.load", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(separate, bench, RECIPE)
    assert process.poll() is not None


@pytest.mark.parametrize("how", ["closed", "forgotten", "turned to another engine"])
def test_the_process_ends_with_the_bench(
    how: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_process, "SCRIPT", "import sys; sys.stdin.buffer.read()")
    monkeypatch.setattr("pickle.load", lambda _: [])  # without waiting for an answer
    bench = Workbench(tiny)
    assert on_replicas(bench, RECIPE, 0, []) == []
    process = process_of(bench).process
    assert process is not None
    assert process.poll() is None
    if how == "closed":
        bench.close()
    elif how == "forgotten":
        del bench
        gc.collect()
    else:
        bench.turn_to(separate)  # of the same module, and so are its replicas
        assert process.poll() is None
        bench.turn_to(single.fit)
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
