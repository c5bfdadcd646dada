"""What experiments read from runs, seed by seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bn_tutorial.evidence import interval
from bn_tutorial.evidence.measures import (
    at_equal_fit,
    by_layer,
    by_part,
    by_step,
    fails,
    final,
    gap,
    last,
    overall,
    roughness,
)
from bn_tutorial.recipe import Recipe
from bn_tutorial.training.runs import Runs

from .histories import made_up, several

PLAIN = Recipe(epochs=3, validation=10)
BATCH = PLAIN.but(norm="batch")
DIVERGED = {"loss": [2.0, math.nan], "val_loss": [2.0, math.nan], "fit_loss": [2.0, math.nan]}


def test_what_is_measured_last_is_a_series_by_seed() -> None:
    runs = Runs(
        [made_up(PLAIN, 4, accuracy=[0.1, 0.2, 0.4]), made_up(PLAIN, 1, accuracy=[0.5] * 3)]
    )
    found = final(runs, "accuracy")
    assert found.index.name == "seed"
    assert found.to_dict() == {4: 0.4, 1: 0.5}
    assert (found - final(Runs([*runs][::-1]), "accuracy")).abs().max() == 0
    assert final(runs, lambda runs: 2 * runs.curves("accuracy")).to_dict() == {4: 0.8, 1: 1.0}


def test_a_metric_that_is_measured_once_is_final() -> None:
    runs = Runs([made_up(PLAIN, test_accuracy=[0.25])])
    assert final(runs, "test_accuracy").to_dict() == {0: 0.25}


def test_an_accuracy_by_part_of_the_test_images() -> None:
    parts = {"val_accuracy/0": [0.1, 0.2, 0.4], "val_accuracy/1": [0.3, 0.4, 0.6]}
    others = {"val_accuracy_population/0": [0.9] * 3}
    runs = Runs([made_up(PLAIN, 4, **parts, **others), made_up(PLAIN, 1, **parts)])
    found = by_part(runs, "val_accuracy", 2)
    assert found.index.name == "seed"
    assert [*found.columns] == [0, 1]
    assert found.to_numpy()[0] == pytest.approx([0.3, 0.5])
    assert by_part(runs, "val_accuracy").to_numpy()[1] == pytest.approx([0.4, 0.6])


def test_a_run_that_diverged_guesses_in_every_part() -> None:
    parts = {"test_accuracy/0": [0.5], "test_accuracy/1": [0.7]}
    runs = Runs([made_up(PLAIN, 0, **parts), made_up(PLAIN, 1, **DIVERGED)])
    assert by_part(runs, "test_accuracy").to_numpy().tolist() == [[0.5, 0.7], [0.1, 0.1]]


def test_a_run_that_diverged_has_no_final_value_but_a_last_one() -> None:
    run = made_up(PLAIN, **DIVERGED, accuracy=[0.1, 0.3])
    del run.history["test_accuracy"]
    assert math.isnan(final(Runs([run]), "accuracy")[0])
    assert last(Runs([run]), "accuracy")[0] == 0.3
    assert math.isnan(last(Runs([run]), "test_accuracy")[0])
    assert last(Runs([run]), "test_accuracy", guessing=0.1)[0] == 0.1


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"fit_loss": [2.0, 2.2, 2.2]}, False),
        ({"fit_loss": [0.5, 1.0, math.log(10)]}, True),
        (DIVERGED, True),
    ],
)
def test_a_run_fails_if_it_ends_no_better_than_guessing(
    changes: dict[str, list[float]], failed: bool
) -> None:
    assert fails(made_up(PLAIN, **changes)) == failed


def test_roughness_is_the_mean_change_from_epoch_to_epoch() -> None:
    curves = {4: [0.1, 0.4, 0.2], 1: [0.5, 0.5, 0.5], 2: [0.5, 0.6]}
    runs = Runs(made_up(PLAIN, seed, val_accuracy=values) for seed, values in curves.items())
    found = roughness(runs, "val_accuracy")
    assert found[[4, 1]].to_list() == pytest.approx([0.25, 0])
    assert math.isnan(found[2])  # diverged


def test_an_overall_value_is_a_geometric_mean() -> None:
    runs = Runs([made_up(PLAIN, beta=[1.0, 2.0, 4.0])])
    assert overall(runs, "beta")[0] == pytest.approx(2)
    assert overall(runs, lambda runs: 3 * runs.curves("beta"))[0] == pytest.approx(6)


def test_layers_are_averaged_over_the_epochs_that_they_have() -> None:
    shift = {"shift/0": [1.0, 2.0, 3.0], "shift/1": [4.0, 6.0], "shifted/0": [9.0]}
    found = by_layer(Runs([made_up(PLAIN, 5, **shift)]), "shift")
    assert found.index.to_list() == [5]
    assert found.loc[5].to_dict() == {0: 2.0, 1: 5.0}


def test_the_gap_is_training_minus_validation_accuracy() -> None:
    run = made_up(PLAIN, fit_accuracy=[0.5, 0.7, 1], val_accuracy_population=[0.5, 0.4, 0.25])
    assert gap(Runs([run]))[0] == pytest.approx([0, 0.3, 0.75])


@pytest.mark.parametrize(
    ("along", "fits", "level"),
    [("fit_loss", (2.0, 1.0, 0.5), 0.75), ("fit_accuracy", (0.0, 0.5, 0.75), 0.375)],
)
def test_networks_are_compared_at_the_same_fit(
    along: str, fits: tuple[float, ...], level: float
) -> None:
    slow = {along: [fits[0], fits[1], (fits[1] + fits[2]) / 2], "val_loss": [1.0, 2.0, 3.0]}
    fast = {along: list(fits), "val_loss": [10.0, 20.0, 30.0]}
    trial = Runs([made_up(PLAIN, **slow), made_up(BATCH, **fast)])
    pair = {"without": PLAIN, "batch": BATCH}
    found = at_equal_fit(trial, pair, "val_loss", [level], along)
    # half-way between the fast network's last two epochs, and the slow network's last one
    assert {arm: values.to_dict() for arm, values in found.items()} == {
        "without": {0: pytest.approx(3.0)},
        "batch": {0: pytest.approx(25.0)},
    }
    earlier = {"fit_loss": 1.5, "fit_accuracy": 0.75}[along]
    both = at_equal_fit(trial, pair, "val_loss", [earlier, level], along)
    assert both["without"][0] == pytest.approx((1.5 + 3) / 2)
    assert both["batch"][0] == pytest.approx((15 + 25) / 2)


def test_a_fit_that_is_not_reached_has_no_value() -> None:
    trial = Runs([made_up(PLAIN, fit_loss=[2.0, 1.0], val_loss=[1.0, 2.0])])
    found = at_equal_fit(trial, {"without": PLAIN}, "val_loss", [1.5, 0.5])
    assert found["without"].isna().all()


def test_each_seed_has_a_value_of_its_own() -> None:
    trial = several(PLAIN, BATCH, seeds=4)
    level = max(run.history["fit_loss"][-1] for run in trial)
    found = at_equal_fit(trial, {"without": PLAIN, "batch": BATCH}, gap, [level])
    assert found["without"].index.to_list() == found["batch"].index.to_list() == [0, 1, 2, 3]
    assert interval(found["batch"] - found["without"]).n == 4
    assert np.isfinite(found["batch"]).all()


def test_what_is_measured_between_epochs_has_a_column_for_each_step() -> None:
    runs = Runs([made_up(PLAIN, seed, step=[1, 5], distance=[seed, 0.5]) for seed in (3, 1)])
    found = by_step(runs, "distance")
    assert found.index.to_list() == [3, 1]
    assert found[5].to_list() == [0.5, 0.5]
    assert found.loc[3].to_dict() == {1: 3, 5: 0.5}
    assert (found.index.name, found.columns.name) == ("seed", "step")
