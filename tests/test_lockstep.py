from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.bench.agreement import TOLERANCE
from bn_tutorial.data import load_cifar10
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep, single
from bn_tutorial.engines.lockstep import fit_together, suits
from bn_tutorial.engines.single import METRICS, History
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import sweep
from bn_tutorial.training.runs import RunStore
from bn_tutorial.training.sweep import run_key, train, usual_engine

#: 100 images: three batches, and a last one of 4.
PLAIN = Recipe(width=8, epochs=3)
NORMALIZED = PLAIN.but(norm="batch")
SEEDS = (3, 4)


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    """Compile by XLA, as long runs are, and keep what the tests of this module compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "_program", functools.cache(single._program.__wrapped__))
        patch.setattr(lockstep, "_program", functools.cache(lockstep._program.__wrapped__))
        patch.setattr(single, "WORTH_COMPILING", 0)
        yield
    single._resident.cache_clear()


def serial(recipe: Recipe, data: Dataset, seeds: tuple[int, ...] = SEEDS) -> list[History]:
    return [single.fit(recipe, data, seed) for seed in seeds]


# The same networks


@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        PLAIN.but(inputs="standardized"),
        NORMALIZED,
        NORMALIZED.but(inputs="standardized", validation=30, train_size=50),
        NORMALIZED.but(optimizer="adamw", weight_decay=0.1),
        PLAIN.but(norm="ghost", norm_options={"size": 8}),
        PLAIN.but(norm="renorm", optimizer="sgd", learning_rate=0.1, norm_position="after"),
        PLAIN.but(norm="layer", depth=2),
        PLAIN.but(norm="group", norm_options={"groups": 2}),
    ],
    ids=lambda recipe: str(recipe.label),
)
def test_in_lockstep_networks_are_trained_as_one_by_one(recipe: Recipe, tiny: Dataset) -> None:
    together, alone = fit_together(recipe, tiny, SEEDS), serial(recipe, tiny)
    for found, expected in zip(together, alone, strict=True):
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=TOLERANCE, err_msg=name)
    assert not set(alone[0]["loss"]) & set(alone[1]["loss"])  # so that seeds can be told apart


def test_a_network_alone_is_trained_as_in_company(tiny: Dataset) -> None:
    recipe = PLAIN.but(optimizer="rmsprop")
    alone = lockstep.fit(recipe, tiny, 3)
    for name, values in fit_together(recipe, tiny, SEEDS)[0].items():
        np.testing.assert_allclose(alone[name], values, rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("inputs", ["unit", "standardized"])
def test_after_several_epochs_they_differ_by_less_than_seeds_do(
    inputs: str, norm: str | None
) -> None:
    recipe = Recipe(norm=norm, inputs=inputs, width=32, epochs=10, train_size=500)
    data, seeds = load_cifar10("sample"), (0, 1, 2)
    together, alone = fit_together(recipe, data, seeds), serial(recipe, data, seeds)
    for name in METRICS:
        ours, theirs = (np.array([one[name][-1] for one in both]) for both in (together, alone))
        assert abs(ours.mean() - theirs.mean()) < theirs.std(ddof=1) / 2, name


def test_the_same_seeds_give_the_same_histories_bit_for_bit(tiny: Dataset) -> None:
    first = fit_together(NORMALIZED, tiny, SEEDS)
    fit_together(NORMALIZED.but(learning_rate=1.0), tiny, SEEDS)
    assert fit_together(NORMALIZED, tiny, SEEDS) == first


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_network_that_diverges_does_not_touch_the_others(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fit_together(NORMALIZED, tiny, SEEDS)
    start_all = lockstep._Program.start_all

    def broken(self: Any, recipe: Recipe, seeds: Any) -> None:
        start_all(self, recipe, seeds)
        kernel = self.trained[0]
        kernel.assign(np.stack([np.full(kernel.shape[1:], math.nan), kernel[1]]))

    monkeypatch.setattr(lockstep._Program, "start_all", broken)
    epochs: list[int] = []
    diverged, fine = fit_together(NORMALIZED, tiny, SEEDS, lambda: epochs.append(1))
    assert {len(values) for values in diverged.values()} == {1}
    assert math.isnan(diverged["loss"][0])
    assert fine == expected[1]
    assert len(epochs) == 1 + NORMALIZED.epochs


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_when_all_have_diverged_training_ends(tiny: Dataset) -> None:
    histories = fit_together(PLAIN.but(learning_rate=1e30), tiny, SEEDS)
    assert all(len(history["loss"]) < PLAIN.epochs for history in histories)


# What suits


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(model="cnn"),
        Recipe(model="gru"),
        PLAIN.but(dropout=0.1),
        PLAIN.but(norm="noisy"),
    ],
    ids=lambda recipe: str(recipe.label),
)
def test_what_does_not_suit_is_refused(recipe: Recipe, tiny: Dataset) -> None:
    assert not suits(recipe)
    with pytest.raises(ValueError, match="cannot be trained in lockstep"):
        fit_together(recipe, tiny, SEEDS)


# Together with `train`


def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "GPUS", ["a GPU"])
    monkeypatch.setattr(backend, "device", lambda: "a GPU")


def test_only_a_gpu_trains_in_lockstep_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "GPUS", [])
    assert usual_engine(PLAIN) is single.fit
    monkeypatch.setattr(backend, "GPUS", ["a GPU"])
    assert usual_engine(PLAIN) is lockstep.fit
    assert usual_engine(Recipe(model="cnn")) is single.fit


def test_runs_of_the_two_engines_are_kept_apart(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "GPUS", [])
    assert run_key(PLAIN, tiny, 0) == run_key(PLAIN, tiny, 0, single.fit)
    assert run_key(PLAIN, tiny, 0) != run_key(PLAIN, tiny, 0, lockstep.fit)
    pretend_gpu(monkeypatch)
    assert run_key(PLAIN, tiny, 0) == run_key(PLAIN, tiny, 0, lockstep.fit)


def test_missing_seeds_of_a_recipe_are_trained_together(
    tiny: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch)
    companies: list[tuple[Recipe, list[int]]] = []

    def noted(recipe: Recipe, data: Dataset, seeds: Any, on_epoch: Any) -> list[History]:
        companies.append((recipe, list(seeds)))
        for _ in range(len(seeds) * recipe.epochs):
            on_epoch()
        return [{name: [float(seed)] for name in METRICS} for seed in seeds]

    monkeypatch.setattr(lockstep, "fit_together", noted)
    monkeypatch.setattr(sweep, "MOST", 2)
    train(PLAIN, tiny, [1])
    runs = train([NORMALIZED, PLAIN], tiny, range(3))
    assert sorted(companies, key=str) == sorted(
        [(PLAIN, [1]), (PLAIN, [0, 2]), (NORMALIZED, [0, 1]), (NORMALIZED, [2])], key=str
    )
    assert [(run.recipe, run.seed) for run in runs] == [
        (recipe, seed) for recipe in (NORMALIZED, PLAIN) for seed in range(3)
    ]
    assert all(run.history["loss"] == [run.seed] for run in runs)
    assert {run.provenance["engine"] for run in runs} == {"bn_tutorial.engines.lockstep.fit"}
    assert len(RunStore().keys()) == 6
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_an_engine_that_is_asked_for_is_used(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch)
    (run,) = train(PLAIN, tiny, engine=single.fit)
    assert run.provenance["engine"] == "bn_tutorial.engines.single.fit"
    (run,) = train(PLAIN, tiny, engine=lockstep.fit)
    assert run.provenance["engine"] == "bn_tutorial.engines.lockstep.fit"
