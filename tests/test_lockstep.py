from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from bn_tutorial.bench.agreement import TOLERANCE
from bn_tutorial.data import load_cifar10
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep, program, single
from bn_tutorial.engines.lockstep import Vectorised, fit_together, supports, usual_engine
from bn_tutorial.engines.rows import History, Row, collect_each
from bn_tutorial.engines.single import METRICS
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks import backend
from bn_tutorial.recipe import NORMALISERS, Recipe
from bn_tutorial.training import sweep
from bn_tutorial.training.keys import run_key
from bn_tutorial.training.store import RunStore
from bn_tutorial.training.sweep import train
from tests.benches import PARTS, fit, run

#: 100 images: three batches, and a last one of 4. Where the number is said, runs are short, and not
#: compiled by XLA.
PLAIN = Recipe(width=8, epochs=3, train_size=100)
NORMALIZED = PLAIN.but(norm="batch")
SEEDS = (3, 4)
OPTIONS = {"ghost": {"size": 8}, "group": {"groups": 2}}


def together(bench: Workbench, recipe: Recipe, seeds: tuple[int, ...] = SEEDS) -> list[History]:
    return [*collect_each(fit_together(bench, recipe, seeds), seeds).values()]


def serial(bench: Workbench, recipe: Recipe, seeds: tuple[int, ...] = SEEDS) -> list[History]:
    return [fit(bench, recipe, seed) for seed in seeds]


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
        PLAIN.but(norm="partial", norm_options={"mean": False}),
        NORMALIZED.but(depth=2, residual="skipinit", kernel="standardized", epochs=2),
    ],
    ids=lambda recipe: str(recipe.label),
)
def test_networks_are_trained_together_as_one_by_one(recipe: Recipe, bench: Workbench) -> None:
    alone = serial(bench, recipe)
    for found, expected in zip(together(bench, recipe), alone, strict=True):
        assert set(found) == set(expected)
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=TOLERANCE, err_msg=name)
    assert not set(alone[0]["loss"]) & set(alone[1]["loss"])  # so that seeds can be told apart


@pytest.mark.parametrize(
    "recipe",
    [
        PLAIN,
        *(
            PLAIN.but(norm=norm, norm_options=OPTIONS.get(norm, {}))
            for norm, row in NORMALISERS.items()
            if row.over != "channel" and not row.random and norm not in ("rms", "dyt")
        ),
    ],
    ids=lambda recipe: str(recipe.norm),
)  # two are like layer normalisation and derf
def test_compiled_by_xla_they_are_the_same(
    recipe: Recipe, bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = serial(bench, recipe)
    monkeypatch.setattr(program, "WORTH_COMPILING", 0)
    rounding = 5 * TOLERANCE  # which XLA does otherwise on each kind of processor
    # a network by itself shows what goes wrong if a smaller last batch is compiled with the others
    for seeds in ((3,), SEEDS) if recipe == NORMALIZED else ((3,),):
        for found, expected in zip(together(bench, recipe, seeds), plain, strict=False):
            for name, values in expected.items():
                np.testing.assert_allclose(found[name], values, rtol=rounding, err_msg=name)


def test_a_network_alone_is_trained_as_in_company(bench: Workbench) -> None:
    recipe = PLAIN.but(optimizer="rmsprop")
    alone = run(lockstep.fit, bench, recipe, 3)
    for name, values in together(bench, recipe)[0].items():
        np.testing.assert_allclose(alone[name], values, rtol=TOLERANCE, err_msg=name)


@pytest.mark.parametrize("norm", [None, "batch"])
@pytest.mark.parametrize("inputs", ["unit", "standardized"])
def test_after_several_epochs_they_differ_by_less_than_seeds_do(inputs: str, norm: str) -> None:
    recipe = Recipe(width=32, epochs=10, train_size=500).but(norm=norm, inputs=inputs)
    seeds = (0, 1, 2)
    with Workbench(load_cifar10("sample")) as bench:
        both = together(bench, recipe, seeds), serial(bench, recipe, seeds)
    for name in METRICS:
        ours, theirs = (np.array([one[name][-1] for one in histories]) for histories in both)
        assert abs(ours.mean() - theirs.mean()) < theirs.std(ddof=1) / 2, name


def test_the_same_seeds_give_the_same_histories_bit_for_bit(bench: Workbench) -> None:
    first = together(bench, NORMALIZED)
    together(bench, NORMALIZED.but(learning_rate=1.0))
    assert together(bench, NORMALIZED) == first


def test_rows_come_seed_by_seed_after_each_epoch(bench: Workbench) -> None:
    pairs = list(fit_together(bench, NORMALIZED, SEEDS))
    assert [seed for seed, _ in pairs] == 3 * [*SEEDS]
    assert [set(row) for _, row in pairs] == 6 * [{*METRICS, *PARTS}]
    assert {type(value) for _, row in pairs for value in row.values()} == {float}


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_a_network_that_diverges_does_not_touch_the_others(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = together(bench, NORMALIZED)
    start_all = Vectorised.start_all

    def broken(self: Vectorised, recipe: Recipe, seeds: Any) -> None:
        start_all(self, recipe, seeds)
        kernel = self.trained[0]
        kernel.assign(np.stack([np.full(kernel.shape[1:], math.nan), kernel[1]]))

    monkeypatch.setattr(Vectorised, "start_all", broken)
    diverged, fine = together(bench, NORMALIZED)
    assert {len(values) for values in diverged.values()} == {1}
    assert math.isnan(diverged["loss"][0])
    assert fine == expected[1]


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_when_all_have_diverged_training_ends(bench: Workbench) -> None:
    histories = together(bench, PLAIN.but(learning_rate=1e30))
    assert all(len(history["loss"]) < PLAIN.epochs for history in histories)


# What is supported


def test_what_draws_at_random_or_is_not_dense_is_refused(bench: Workbench) -> None:
    for recipe in (
        Recipe(model="cnn"),
        Recipe(model="gru"),
        PLAIN.but(dropout=0.1),
        PLAIN.but(norm="noisy"),
    ):
        assert not supports(recipe)
        with pytest.raises(ValueError, match="cannot be trained vectorised over seeds"):
            next(fit_together(bench, recipe, SEEDS))


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

    def noted(bench: Workbench, recipe: Recipe, seeds: Any) -> Iterator[tuple[int, Row]]:
        companies.append((recipe, list(seeds)))
        for seed in seeds:
            yield seed, dict.fromkeys(METRICS, float(seed))

    monkeypatch.setattr(lockstep, "fit_together", noted)
    monkeypatch.setattr(sweep, "MAX_SEEDS_TOGETHER", 2)
    train(PLAIN, tiny, [1])
    runs = train([NORMALIZED, PLAIN], tiny, range(3))
    assert sorted(companies, key=str) == sorted(
        [(PLAIN, [1]), (PLAIN, [0, 2]), (NORMALIZED, [0, 1]), (NORMALIZED, [2])], key=str
    )
    assert [(run.recipe, run.seed) for run in runs] == [
        (recipe, seed) for recipe in (NORMALIZED, PLAIN) for seed in range(3)
    ]
    assert all(run.history["loss"] == [run.seed] for run in runs)
    assert {run.provenance.engine for run in runs} == {"bn_tutorial.engines.lockstep.fit"}
    assert len(RunStore().keys()) == 6
    assert len(capsys.readouterr().err.splitlines()) == 6


def test_an_engine_that_is_asked_for_is_used(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpu(monkeypatch)
    (run,) = train(PLAIN, tiny, engine=single.fit)
    assert run.provenance.engine == "bn_tutorial.engines.single.fit"
    (run,) = train(PLAIN, tiny, engine=lockstep.fit)
    assert run.provenance.engine == "bn_tutorial.engines.lockstep.fit"
