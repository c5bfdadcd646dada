from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines.program import program_key
from bn_tutorial.engines.workbench import Workbench
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import progress
from bn_tutorial.training.keys import run_key
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run, Runs
from bn_tutorial.training.store import RunStore
from bn_tutorial.training.sweep import train
from tests import engines

A = Recipe(epochs=2, batch_size=10)
B = A.but(norm="batch")
#: As they are trained: which program comes first depends on its digest.
IN_ORDER = sorted((A, B), key=lambda one: program_key(one)[0].digest)


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Forget what the counting engine was asked for, and what may force colours upon us."""
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    engines.calls.clear()
    return engines.calls


def pairs(runs: Runs) -> list[tuple[Recipe, int]]:
    return [(run.recipe, run.seed) for run in runs]


def files(folder: Path) -> list[str]:
    """Return the names of all files below a folder but for the locks."""
    return sorted(
        path.name
        for path in folder.rglob("*")
        if path.is_file() and not (path.name.startswith(".") and path.name.endswith(".json.lock"))
    )


# What is trained, and what is not


def test_each_recipe_is_trained_with_each_seed_once(
    tiny: Dataset, calls: list[tuple[str, int]], home: Path
) -> None:
    seeds: list[Any] = [1, np.int64(0), np.int64(1)]
    runs = train([B, A, B.but()], tiny, seeds, engine=engines.counted)
    assert pairs(runs) == [(B, 0), (B, 1), (A, 0), (A, 1)]
    assert sorted(calls) == sorted((one.label, seed) for one in (A, B) for seed in (0, 1))
    for run in runs:
        assert run.history == engines.history(run.recipe, run.seed)
    assert len(files(home / "runs")) == 4


def test_a_mapping_says_with_which_seeds_each_recipe_is_trained(
    tiny: Dataset, calls: list[tuple[str, int]]
) -> None:
    runs = train({B: [1], A: range(2)}, tiny, seeds=[7], engine=engines.counted)
    assert pairs(runs) == [(B, 1), (A, 0), (A, 1)]
    assert len(calls) == 3
    with pytest.raises(ValueError, match="at least one recipe and one seed"):
        train({A: [0], B: []}, tiny, engine=engines.counted)
    with pytest.raises(ValueError, match=r"seeds=\[-1\] are impossible"):
        train({A: [0], B: [-1]}, tiny, engine=engines.counted)


def test_what_is_stored_is_not_trained_again(tiny: Dataset, calls: list[tuple[str, int]]) -> None:
    first = train(A, tiny, seeds=range(2), engine=engines.counted)
    calls.clear()
    again = train(iter([A]), tiny, seeds=range(2), engine=engines.counted)
    assert calls == []
    assert list(again) == list(first)
    more = train([A, B], tiny, seeds=(1, 2), engine=engines.counted)
    missing = {A: (2,), B: (1, 2)}
    assert calls == [(one.label, seed) for one in IN_ORDER for seed in missing[one]]
    assert pairs(more) == [(A, 1), (A, 2), (B, 1), (B, 2)]


def test_a_run_says_what_it_was_computed_with(tiny: Dataset) -> None:
    (run,) = train(A, tiny, engine=engines.counted)
    assert run.seed == 0
    made = run.provenance
    assert made == dataclasses.replace(
        Provenance.here(tiny, engine="tests.engines.counted"),
        seconds=made.seconds,
        created=made.created,
    )
    assert made.seconds is not None


def test_runs_go_into_the_store_that_was_given(tiny: Dataset, tmp_path: Path, home: Path) -> None:
    train(A, tiny, engine=engines.counted, store=RunStore(tmp_path / "other"))
    assert len(RunStore(tmp_path / "other").keys()) == 1
    assert not home.exists()


def test_a_run_that_cannot_be_read_is_trained_again(
    tiny: Dataset, calls: list[tuple[str, int]]
) -> None:
    train(A, tiny, engine=engines.counted)
    store = RunStore()
    store.path(store.keys()[0]).write_text("{")
    with pytest.warns(UserWarning, match="set aside"):
        (run,) = train(A, tiny, engine=engines.counted)
    assert len(calls) == 2
    assert list(store.runs()) == [run]


def test_a_run_that_diverges_does_not_stop_the_others(
    tiny: Dataset, calls: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]
) -> None:
    wild = A.but(width=666)
    runs = train([wild, A], tiny, seeds=range(2), engine=engines.counted)
    assert [run.diverged for run in runs] == [True, True, False, False]
    assert capsys.readouterr().err.count("diverged") == 2
    again = train([wild, A], tiny, seeds=range(2), engine=engines.counted)
    assert len(calls) == 4
    assert math.isnan(next(iter(again)).history["loss"][-1])


# What is refused before anything is trained


@pytest.mark.parametrize(
    ("recipes", "seeds", "message"),
    [
        ([A, Recipe(batch_size=101)], [0], "batch_size=101 is impossible: there are 100 training"),
        ([A, A.but(train_size=101)], [0], "train_size=101 is impossible: there are 100 training"),
        ([], [0], "nothing to train: give at least one recipe and one seed"),
        ([A], [], "nothing to train: give at least one recipe and one seed"),
        ([A], [0, -1], r"seeds=\[0, -1\] are impossible: they must be whole numbers from 0"),
        ([A], [0, 1.5], r"seeds=\[0, 1.5\] are impossible"),
        ([A], [0, True], r"seeds=\[0, True\] are impossible"),
        ([A], [0, "1"], r"seeds=\[0, '1'\] are impossible"),
    ],
)
def test_the_impossible_is_refused_before_anything_is_trained(
    recipes: list[Recipe],
    seeds: list[Any],
    message: str,
    tiny: Dataset,
    calls: list[tuple[str, int]],
    home: Path,
) -> None:
    with pytest.raises(ValueError, match=message):
        train(recipes, tiny, seeds, engine=engines.counted)
    assert calls == []
    assert not home.exists()


def test_the_largest_sizes_that_fit_are_trained(tiny: Dataset) -> None:
    fitting = [A.but(batch_size=100), A.but(train_size=100), A.but(train_size=10)]
    assert len(train(fitting, tiny, engine=engines.counted)) == 3


# Interruptions


def test_what_is_interrupted_goes_on_where_it_stopped(
    tiny: Dataset,
    calls: list[tuple[str, int]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train([A, B], tiny, seeds=range(2), engine=engines.stopped)
    assert len(calls) == 2
    assert len(files(home / "runs")) == 2
    assert capsys.readouterr().err.endswith("Interrupted: 2 of 4 runs are finished and kept.\n")
    finished = calls.copy()
    calls.append(("so that it does not stop again", 0))
    runs = train([A, B], tiny, seeds=range(2), engine=engines.stopped)
    assert pairs(runs) == [(A, 0), (A, 1), (B, 0), (B, 1)]
    assert len(calls) == 5
    assert not set(finished) & set(calls[3:])


class Process:
    """A process that trains `engines.RECIPES`, as soon as it is told to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.engines", str(folder / "runs")],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "ENGINE_LOG": str(folder / "log")},
        )

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Process]]:
    """Start three processes at once: two share a store, the third one will be killed."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "alone").mkdir()
    (folder / "alone" / "wait").touch()
    started = [Process(folder / name) for name in ("shared", "shared", "alone")]
    yield started
    for process in started:
        process.end()


def expected() -> list[list[Any]]:
    return [
        [recipe.label, seed, engines.history(recipe, seed)]
        for recipe in engines.RECIPES
        for seed in engines.SEEDS
    ]


def test_two_processes_train_each_run_once(processes: list[Process]) -> None:
    both = processes[:2]
    assert [process.hear() for process in both] == ["ready", "ready"]
    for process in both:
        process.begin()
    assert [json.loads(process.hear()) for process in both] == [expected(), expected()]
    assert [process.process.wait() for process in both] == [0, 0]
    log = (both[0].folder / "log").read_text().splitlines()
    assert sorted(log) == sorted(
        f"{r.norm} {seed}" for r in engines.RECIPES for seed in engines.SEEDS
    )
    assert len(files(both[0].folder / "runs")) == 6


def test_what_is_killed_goes_on_where_it_stopped(
    processes: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = processes[2]
    assert killed.hear() == "ready"
    killed.begin()
    assert killed.hear() == "in the third run"
    killed.process.kill()
    assert killed.process.wait() < 0
    log = killed.folder / "log"
    began = log.read_text().splitlines()
    assert len(began) == 3
    assert len(files(killed.folder / "runs")) == 2  # nothing that is half-written
    (killed.folder / "wait").unlink()
    monkeypatch.setenv("ENGINE_LOG", str(log))
    monkeypatch.setattr(backend, "device", lambda: "cpu")
    store = RunStore(killed.folder / "runs")
    runs = train(
        engines.RECIPES, engines.dataset(), engines.SEEDS, store=store, engine=engines.logged
    )
    assert [[run.recipe.label, run.seed, run.history] for run in runs] == expected()
    trained = log.read_text().splitlines()[3:]
    assert len(trained) == 4  # the one that was cut short, and the three others
    assert not set(began[:2]) & set(trained)
    assert len(files(store.folder)) == 6


# Stores that cannot be written


def test_without_a_store_the_runs_are_returned_all_the_same(
    tiny: Dataset, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write_text("a regular file")
    runs = train([A, B], tiny, engine=engines.counted)
    assert pairs(runs) == [(A, 0), (B, 0)]
    said = capsys.readouterr().err
    assert said.count("This run is not stored: cannot write ") == 2
    assert said.count("BN_TUTORIAL_HOME") == 2
    assert home.read_text() == "a regular file"


def test_with_a_full_disk_the_runs_are_returned_all_the_same(
    tiny: Dataset, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    runs = train(A, tiny, seeds=range(2), engine=engines.counted)
    assert pairs(runs) == [(A, 0), (A, 1)]
    assert capsys.readouterr().err.count("(No space left on device)") == 2
    assert files(home) == []


# What one sees


def test_captured_output_is_a_line_for_each_run(
    tiny: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = train([A, B], tiny, seeds=range(2), engine=engines.counted)
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert len(lines) == 4
    trained = sorted(runs, key=lambda run: IN_ORDER.index(run.recipe))
    for number, (line, run) in enumerate(zip(lines, trained, strict=True), 1):
        right = f"{run.history['val_accuracy'][-1]:.1%} of the test images right"
        assert line == f"[{number}/4] {run.recipe.label}, seed {run.seed}: {right}, 0 s"
    train([A, B], tiny, seeds=range(2), engine=engines.counted)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_bars_and_keeps_the_lines(
    tiny: Dataset, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(progress, "REPORT_TO", screen)
    monkeypatch.setenv("TERM", "xterm")
    train([A, B], tiny, seeds=range(2), engine=engines.counted)
    assert "all 4 runs" in screen.getvalue()
    assert "/8 epochs" in screen.getvalue()
    assert f"[4/4] {IN_ORDER[1].label}, seed 1" in screen.getvalue()
    assert capsys.readouterr() == ("", "")


def test_a_run_that_another_process_finished_meanwhile_is_taken_over(
    tiny: Dataset, calls: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RunStore()
    key = run_key(A, tiny, 0, engines.counted)
    theirs = Run(A, 0, engines.history(A, 5), Provenance.here(tiny))
    answers = iter([None, theirs])
    monkeypatch.setattr(store, "get", lambda asked: next(answers) if asked == key else None)
    assert list(train(A, tiny, store=store, engine=engines.counted)) == [theirs]
    assert calls == []
    np.testing.assert_equal(store.keys(), [])


def test_runs_that_share_a_compiled_program_are_trained_one_after_the_other(
    tiny: Dataset, calls: list[tuple[str, int]]
) -> None:
    recipes = [
        A.but(norm=norm, learning_rate=rate, init_scale=scale, train_size=size)
        for rate in (0.1, 0.2)
        for scale in (1, 2)
        for size in (40, 50)
        for norm in (None, "batch", "layer")
    ]
    train(recipes, tiny, (0, 1), engine=engines.counted)
    by_label = {one.label: one for one in recipes}
    programs = [program_key(by_label[label])[0] for label, _ in calls]
    assert len(programs) == 48
    assert sum(one != two for one, two in itertools.pairwise(programs)) == 2


def test_before_each_run_a_bench_turns_to_its_engine(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = []
    monkeypatch.setattr(Workbench, "turn_to", lambda bench, engine: turned.append(engine))
    train(Recipe(width=4, epochs=1), tiny, [0, 1], engine=engines.counted)
    assert turned == 2 * [engines.counted]
