"""An experiment owns its budget, images, runs and verdicts."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from bn_tutorial import experiment
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.evidence import measures, quote, recall, verdicts
from bn_tutorial.evidence.registry import JUDGED, Hypothesis, Plan
from bn_tutorial.experiment import Experiment
from bn_tutorial.recipe import Recipe
from bn_tutorial.settings import PROFILES
from bn_tutorial.training.runs import Runs

from .histories import made_up, made_with
from .shapes import PLOTS

PLAIN = Recipe(epochs=3, validation=10, train_size=40)
BATCH = PLAIN.but(norm="batch")
GAP = Hypothesis(
    id="gap",
    experiment="trial",
    statement="It is smaller.",
    effect="gap",
    arms=["without", "batch"],
    wording={word: f"So: {word}." for word in JUDGED},
    primary=False,
)


def other_engine(*_: Any) -> None:
    """Stand in for an engine."""


@pytest.fixture
def trial(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Return an experiment that makes its runs up."""

    def made(
        recipes: Recipe | Iterable[Recipe], data: Dataset, seeds: Iterable[int], *, engine: Any
    ) -> Runs:
        assert data is tiny
        recipes = [recipes] if isinstance(recipes, Recipe) else list(recipes)
        name = "usual" if engine is None else engine.__name__
        return Runs(
            dataclasses.replace(made_up(one, seed), provenance=made_with(engine=name))
            for one in recipes
            for seed in list(seeds)
        )

    monkeypatch.setattr(experiment, "train", made)
    monkeypatch.setattr(verdicts, "hypotheses", lambda: {"gap": GAP})
    return Experiment("trial", budget=PROFILES["standard"], data=tiny)


def test_it_trains_with_the_budget_s_seeds_and_keeps_every_run(trial: Experiment) -> None:
    assert len(trial.train([PLAIN, BATCH])) == 10
    assert len(trial.train(PLAIN, [7])) == 1
    assert [run.seed for run in trial.of(PLAIN)] == [0, 1, 2, 3, 4, 7]
    trial.train(PLAIN, trial.few_seeds)  # trained already
    assert len([*trial]) == 11
    assert trial.recipes == (PLAIN, BATCH)
    assert repr(trial) == "<Experiment 'trial': 11 runs, 0 verdicts>"
    with pytest.raises(KeyError, match="no run of the recipe"):
        trial.of(PLAIN.but(width=3))


def test_a_recipe_that_several_engines_trained_is_ambiguous(trial: Experiment) -> None:
    usual, other = trial.train(PLAIN), trial.train(PLAIN, engine=other_engine)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="several engines"):
        trial.of(PLAIN)
    found = trial.final("loss", usual=usual, other=other)
    assert list(found) == ["usual", "other"]
    assert len([*trial]) == 10


def test_finals_pair_by_seed(trial: Experiment) -> None:
    trial.train(PLAIN, [0, 1, 2])
    trial.train(BATCH, [2, 1, 0])
    arms = trial.final("test_accuracy", without=PLAIN, batch=BATCH)
    difference = trial.final("test_accuracy", BATCH) - trial.final("test_accuracy", PLAIN)
    assert isinstance(difference, pd.Series)
    assert difference.to_dict() == (arms["batch"] - arms["without"]).to_dict()
    assert sorted(difference.index) == [0, 1, 2]
    assert trial.final(measures.gap, PLAIN).notna().all()


def test_what_is_tested_pairs_by_seed_and_by_part(trial: Experiment) -> None:
    parts = {f"test_accuracy/{part}": [part / 10] for part in range(3)}
    runs = Runs(made_up(one, seed, **parts) for one in (PLAIN, BATCH) for seed in (0, 1))
    found = trial.tested("test_accuracy", without=runs.of(PLAIN), batch=runs.of(BATCH))
    assert {arm: table.shape for arm, table in found.items()} == {
        "without": (2, 3),
        "batch": (2, 3),
    }


def test_its_hypotheses_plan_its_seeds(trial: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [dataclasses.replace(GAP, plan=Plan(effect=1, spread=1, n=n)) for n in (4, 8, 6)]
    other = dataclasses.replace(plans[1], experiment="other", plan=Plan(effect=1, spread=1, n=99))
    monkeypatch.setattr(experiment, "hypotheses", lambda: dict(enumerate([GAP, *plans, other])))
    assert trial.seeds == range(8)
    assert trial.seeds_of(1) == range(4)  # type: ignore[arg-type]
    assert trial.seeds_of(0) == range(5)  # type: ignore[arg-type]
    assert trial.seeds_of(1, 3) == range(6)  # type: ignore[arg-type]
    monkeypatch.setenv("BN_TUTORIAL_SEEDS_FROM", "100")
    assert (trial.seeds, trial.few_seeds) == (range(100, 108), range(100, 103))
    few = Experiment("trial", budget=PROFILES["smoke"])
    assert few.seeds == few.few_seeds == range(100, 102)


def test_validation_chooses(trial: Experiment) -> None:
    grid = [PLAIN.but(dropout=rate) for rate in (0.0, 0.2, 0.5)]
    trial.train(grid)
    means = {one: trial.final("val_accuracy", one).mean() for one in grid}
    assert means[trial.best("val_accuracy", grid)] == max(means.values())
    trial.train(grid[0], range(50, 60))  # seeds that the others do not have
    assert means[trial.best("val_accuracy", grid)] == max(means.values())
    losses = {one: trial.final("val_loss", one)[: len(trial.seeds)].mean() for one in grid}
    assert losses[trial.best("val_loss", iter(grid))] == min(losses.values())


def test_what_diverged_is_not_chosen(trial: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = made_up(PLAIN, val_accuracy=[0.1] * 3), made_up(BATCH, val_accuracy=[0.9] * 3)
    bad.history["loss"][-1] = math.nan
    monkeypatch.setattr(experiment, "train", lambda *_, **__: Runs([good, bad]))
    trial.train([PLAIN, BATCH])
    assert trial.best("val_accuracy", [BATCH, PLAIN]) == PLAIN


@pytest.mark.parametrize(
    ("metric", "recipe"), [("test_accuracy", PLAIN), ("val_accuracy", Recipe(epochs=3))]
)
def test_test_images_choose_nothing(trial: Experiment, metric: str, recipe: Recipe) -> None:
    trial.train(recipe)
    with pytest.raises(ValueError, match="test images, which choose nothing"):
        trial.best(metric, [recipe])


def test_the_inputs_are_those_that_the_network_is_given(trial: Experiment, tiny: Dataset) -> None:
    for recipe in (PLAIN, PLAIN.but(inputs="standardized"), PLAIN.but(validation=0)):
        found = trial.inputs(recipe)
        assert found.shape == (40, 32, 32, 3)
        assert found.dtype == np.float32
        kept = tiny.draw(0, recipe.train_size, recipe.validation).x_train
        if recipe.inputs == "unit":
            assert found == pytest.approx(kept / 255, abs=1e-6)
        assert np.corrcoef(found.ravel(), kept.ravel())[0, 1] > 0.99
        assert trial.inputs(recipe, 5) == pytest.approx(found[:5])
    standardized = trial.inputs(PLAIN.but(inputs="standardized"))
    assert standardized.mean(axis=(0, 1, 2)) == pytest.approx(0, abs=1e-4)
    assert standardized.std(axis=(0, 1, 2)) == pytest.approx(1, abs=1e-4)


def test_it_prints_and_records_its_verdicts(
    trial: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    trial.train([PLAIN, BATCH])
    trial.train(PLAIN.but(epochs=5, train_size=None), trial.few_seeds)
    arms = {"without": dict.fromkeys(range(5), 0.1), "batch": {s: 0.3 + s / 99 for s in range(5)}}
    trial.judge({"gap": arms})
    found = trial.verdicts
    assert found["gap"].word == "supported"
    trial.record(growth=np.float64(2.5))
    printed = capsys.readouterr().out
    assert printed.startswith(str(found["gap"]))
    assert "In words, as registered for this verdict:\n\nSo: supported.\n" in printed
    assert printed.endswith("The runs behind this page took 20 s.\n")
    assert quote("trial.gap") == "supported"
    assert (recall("trial.growth"), recall("trial.seconds")) == (2.5, 13 * 1.5)
    assert (recall("trial.seeds"), recall("trial.epochs")) == ([3, 5], [3, 5])
    assert recall("trial.images") == [40, 90]
    assert recall("trial.provenance.seconds") == 13 * 1.5
    assert recall("trial.provenance.engine") == "usual"


def test_the_sample_gives_no_verdict(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdicts, "hypotheses", lambda: {"gap": GAP})
    trial = Experiment(
        "trial", budget=PROFILES["smoke"], data=dataclasses.replace(tiny, is_sample=True)
    )
    arms = {"without": {0: 0.1, 1: 0.1}, "batch": {0: 0.3, 1: 0.3}}
    trial.judge({"gap": arms})
    assert trial.verdicts["gap"].reason == "this is the bundled sample"


def test_rounds_are_no_seeds(trial: Experiment) -> None:
    trial.train(PLAIN, [0])
    rounds = pd.Index(range(3), name="round")
    trial.judge({"gap": {arm: pd.Series([1.0, 2.0, 3.0], rounds) for arm in GAP.arms}})
    trial.record()
    assert (recall("trial.seeds"), recall("trial.rounds")) == (1, 3)
    assert recall("trial.gap.counted") == "round"
    with pytest.raises(KeyError):
        recall("trial.epochs")


def test_another_experiment_s_hypothesis_is_judged_by_itself(
    trial: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {
        name: dataclasses.replace(GAP, id=name, experiment="elsewhere") for name in ("gap", "more")
    }
    monkeypatch.setattr(verdicts, "hypotheses", lambda: elsewhere)
    trial.train(PLAIN)
    values = trial.final("loss", PLAIN)
    trial.judge({"gap": {"without": values, "batch": values}}, of="elsewhere")
    found = trial.verdicts
    assert list(found) == ["gap"]
    trial.record()
    assert quote("trial.gap") == found["gap"].word


def test_a_notebook_would_show_no_figure_twice(trial: Experiment) -> None:
    plain = Recipe(epochs=2)
    trial.train([plain])
    shown = plt.get_fignums()
    assert trial.curves([plain], "loss", alt="Loss.") is None
    assert len(plt.get_fignums()) == len(shown) + 1
    plt.close("all")


def test_its_plots_are_those_that_are_counted_as_plotting() -> None:
    drawing = {
        name
        for name, one in vars(Experiment).items()
        if getattr(one, "__module__", "").startswith("bn_tutorial.figures")
    }
    assert drawing == set(PLOTS)
