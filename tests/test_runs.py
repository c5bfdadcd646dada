from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bn_tutorial import settings
from bn_tutorial.recipe import NORMALISERS, Recipe
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run, Runs
from bn_tutorial.training.store import RunStore

PLAIN = Recipe(epochs=3)
NORMALIZED = PLAIN.but(norm="batch", norm_options={"momentum": 0.9})
KEY = "0123abcd"
MADE = Provenance(
    data={"digest": "0", "source": "somewhere", "sample": False},
    device="cpu",
    versions={"keras": "3"},
    created="2026-11-29T12:00:00+00:00",
    seconds=1.5,
)


def run(recipe: Recipe = PLAIN, seed: int = 0, losses: tuple[float, ...] = (3.0, 2.0, 1.0)) -> Run:
    """Return a run whose every metric follows from its losses."""
    history = {
        "loss": list(losses),
        "accuracy": [0.1 * (seed + 1) / (loss + 1) for loss in losses],
        "val_loss": [loss + 0.5 for loss in losses],
        "val_accuracy": [0.1 * (epoch + seed) for epoch in range(len(losses))],
    }
    return Run(recipe, seed, history, MADE)


DIVERGED = run(seed=1, losses=(3.0, math.nan))


def same(first: Run | None, second: Run) -> bool:
    """Return whether two runs are equal, where NaN equals NaN."""
    assert first is not None
    assert first.history.keys() == second.history.keys()
    for name, values in second.history.items():
        np.testing.assert_array_equal(first.history[name], values)
    return (first.recipe, first.seed, first.provenance) == (
        second.recipe,
        second.seed,
        second.provenance,
    )


# Run and Runs


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("metric", ["loss", "val_loss"])
def test_a_run_whose_loss_is_not_finite_has_diverged(bad: float, metric: str) -> None:
    one = run()
    assert not one.diverged
    one.history[metric][-1] = bad
    assert one.diverged


def test_runs_keep_their_order_and_can_be_joined() -> None:
    runs = Runs([run(NORMALIZED, 1), run(PLAIN, 2)]) + Runs([run(PLAIN, 0)])
    assert [(one.recipe, one.seed) for one in runs] == [
        (NORMALIZED, 1),
        (PLAIN, 2),
        (PLAIN, 0),
    ]
    assert len(runs) == 3
    assert runs.recipes == (NORMALIZED, PLAIN)
    assert repr(runs) == "<Runs: 3 of 2 recipes>"
    assert [one.seed for one in runs.of(PLAIN)] == [0, 2]
    with pytest.raises(KeyError, match="width 3"):
        runs.of(Recipe(width=3))


def test_final_gives_the_last_epoch_of_each_seed() -> None:
    runs = Runs([run(seed=2), DIVERGED, run(seed=0)])
    final = runs.final("val_loss")
    expected = pd.Series([1.5, math.nan, 1.5], pd.Index([2, 1, 0], name="seed"), name="val_loss")
    pd.testing.assert_series_equal(final, expected)
    assert math.isnan(runs.final("val_accuracy")[1])  # which itself is finite
    for several in (Runs([run(PLAIN), run(NORMALIZED)]), Runs()):
        with pytest.raises(ValueError, match="one recipe"):
            several.final("loss")


def test_differences_pair_the_seeds_by_themselves() -> None:
    one = Runs([run(seed=2, losses=(3.0,)), run(seed=0, losses=(2.0,)), run(seed=1)]).final("loss")
    other = Runs([run(seed=0, losses=(5.0,)), run(seed=2, losses=(7.0,))]).final("loss")
    assert (other - one).dropna().to_dict() == {0: 3.0, 2: 4.0}


def test_curves_are_nan_after_a_run_has_diverged() -> None:
    curves = Runs([run(), DIVERGED]).curves("val_accuracy")
    np.testing.assert_allclose(curves, [[0, 0.1, 0.2], [0.1, 0.2, np.nan]])


def test_curves_of_what_was_measured_once_stand_in_the_last_epoch() -> None:
    once = Run(PLAIN, 1, {"loss": [3.0, 2.0, 1.0], "fit_accuracy": [0.5]}, MADE)
    nan = math.nan
    np.testing.assert_array_equal(Runs([once]).curves("fit_accuracy"), [[nan, nan, 0.5]])
    assert Runs([once]).frame()["fit_accuracy"].iloc[-1] == 0.5


def test_frame_has_a_row_for_each_run_and_epoch() -> None:
    frame = Runs([run(PLAIN, 0), DIVERGED, run(NORMALIZED, 0)]).frame()
    assert list(frame.columns) == [
        *PLAIN.asdict(),
        *("seed", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "diverged"),
    ]
    assert list(frame["epoch"]) == [1, 2, 3, 1, 2, 1, 2, 3]
    assert list(frame["seed"]) == [0, 0, 0, 1, 1, 0, 0, 0]
    assert list(frame["diverged"]) == [False] * 3 + [True] * 2 + [False] * 3
    assert list(frame["norm"].fillna("none")) == ["none"] * 5 + ["batch"] * 3
    np.testing.assert_array_equal(frame["loss"], [3, 2, 1, 3, np.nan, 3, 2, 1])
    assert frame["norm_options"].iloc[-1] == {"momentum": 0.9}


def test_frame_of_runs_with_different_metrics() -> None:
    bare = Run(PLAIN, 1, {"loss": [1.0], "val_loss": [2.0]}, MADE)
    frame = Runs([run(), bare]).frame()
    assert list(frame["accuracy"].isna()) == [False, False, False, True]


# RunStore


@pytest.mark.parametrize("one", [run(NORMALIZED, 7), DIVERGED, run(losses=(math.inf,))])
def test_a_run_survives_the_store(one: Run, home: Path) -> None:
    store = RunStore()
    assert store.get(KEY) is None
    store.put(KEY, one)
    assert same(RunStore(home / "runs").get(KEY), one)
    assert store.keys() == [KEY]


def test_a_store_knows_its_runs_and_can_be_cleared(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    assert store.keys() == []
    assert store.clear() == 0
    for seed in (1, 0):
        store.put(f"key{seed}", run(seed=seed))
    store.path("broken").write_text("")
    with pytest.warns(UserWarning, match="set aside"):
        assert store.get("broken") is None
    assert [one.seed for one in store.runs()] == [0, 1]
    assert store.clear() == 2
    assert not store.folder.exists()


def test_keys_are_of_runs_only(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with settings.lock(store.path(KEY)):
        assert store.keys() == []
        store.put(KEY, run())
    (tmp_path / f".{KEY}.json.half_written").touch()
    (tmp_path / f"{KEY}.json.unusable").touch()
    assert (tmp_path / f".{KEY}.json.lock").exists()
    assert store.keys() == [KEY]


def changed(**fields: object) -> Callable[[str], str]:
    """Return what changes fields of a stored run, as by hand."""
    return lambda text: json.dumps({**json.loads(text), **fields})


def without(field: str) -> Callable[[str], str]:
    """Return what takes a field out of a stored run."""
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != field})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text[: len(text) // 2], "is not a run of this version"),
        (lambda text: "", "is not a run of this version"),
        (lambda text: text + "}", "is not a run of this version"),
        (changed(seed=1), "its checksum does not fit"),
        (changed(history={"loss": [0.0], "val_loss": [0.0]}), "its checksum does not fit"),
        (changed(more=1), "its checksum does not fit"),
        (without("history"), "its checksum does not fit"),
        (without("checksum"), "checksum"),
        (without("format"), "format"),
        (changed(format=0), "another format"),
        (changed(format=1), "another format"),
        (lambda text: json.dumps([json.loads(text)]), "is not a run of this version"),
        (lambda text: "3", "is not a run of this version"),
        (lambda text: "null", "is not a run of this version"),
        (lambda text: '"text"', "is not a run of this version"),
        (lambda text: "[" * 10**5, "is not a run of this version"),
        (lambda text: text.replace('"cpu"', '"é"').encode("latin1"), "cannot be read"),
        (lambda text: b"\x00\xff" * 50, "cannot be read"),
    ],
)
def test_a_file_that_is_no_run_is_set_aside(
    damage: Callable[[str], str | bytes], reason: str, tmp_path: Path
) -> None:
    store = RunStore(tmp_path)
    store.put(KEY, run())
    assert store.get(KEY) is not None
    damaged = damage(store.path(KEY).read_text())
    content = damaged if isinstance(damaged, bytes) else damaged.encode()
    store.path(KEY).write_bytes(content)
    with pytest.warns(UserWarning, match=reason) as warned:
        assert store.get(KEY) is None
    assert len(warned) == 1
    assert (tmp_path / f"{KEY}.json.unusable").read_bytes() == content
    assert store.keys() == []
    assert store.get(KEY) is None  # without another warning
    store.put(KEY, run())
    assert same(store.get(KEY), run())


def test_a_run_of_a_recipe_that_is_impossible_now_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore(tmp_path)
    store.put(KEY, run(NORMALIZED))
    monkeypatch.setitem(NORMALISERS, "batch", dataclasses.replace(NORMALISERS["batch"], options=()))
    with pytest.warns(UserWarning, match="norm_options"):
        assert store.get(KEY) is None


def test_a_folder_in_place_of_a_run_is_set_aside(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.path(KEY).mkdir()
    with pytest.warns(UserWarning, match="cannot be read"):
        assert store.get(KEY) is None
    assert store.keys() == []


def test_a_store_below_a_regular_file_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = RunStore(tmp_path / "file" / "runs")
    assert store.get(KEY) is None
    assert store.keys() == []
    with pytest.raises(settings.StorageError, match="BN_TUTORIAL_HOME"):
        store.put(KEY, run())


def test_a_broken_file_in_a_store_that_cannot_be_changed_counts_as_missing(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.path(KEY).write_text("{")
    (tmp_path / f"{KEY}.json.unusable" / "full").mkdir(parents=True)  # so renaming fails
    with pytest.warns(UserWarning, match=f"{KEY}.json"):
        assert store.get(KEY) is None
    assert store.path(KEY).read_text() == "{"
