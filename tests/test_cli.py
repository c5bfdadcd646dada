from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import math
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import bn_tutorial
from bn_tutorial import cli, settings
from bn_tutorial.bench import speed
from bn_tutorial.data import cifar10, sample
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.recipe import Recipe, choices
from bn_tutorial.training import fetched, sweep
from bn_tutorial.training.keys import run_key
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run, Runs
from bn_tutorial.training.store import RunStore

MADE = Provenance(
    data={"digest": "0", "source": "bundled sample of 1", "sample": True},
    device="cpu",
    versions={"keras": "3"},
    created="2024-05-01T12:00:00+00:00",
    engine="bn_tutorial.engines.single.fit",
    seconds=1.5,
)
METRICS = (
    "loss",
    "accuracy",
    "val_loss",
    "val_accuracy",
    "val_loss_population",
    "val_accuracy_population",
)


def invoke(*args: str, answer: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, args, input=answer)


def error_of(result: Result) -> str:
    """Return the one sentence of a user's error, having checked that it is one."""
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert re.fullmatch(r"Error: \S[^\n]*[.)]\n", result.stderr)
    assert isinstance(result.exception, SystemExit)
    return result.stderr


def fake_run(recipe: Recipe, seed: int, *, diverged: bool = False) -> Run:
    epochs = 1 if diverged else recipe.epochs
    starts = {"val_accuracy": 0.35, "val_accuracy_population": 0.45}
    history = {name: [round(starts.get(name, 0.25) + 0.01 * seed, 2)] * epochs for name in METRICS}
    if diverged:
        history["loss"] = [math.nan]
    return Run(
        recipe,
        seed,
        history,
        dataclasses.replace(MADE, created=f"2024-05-0{seed + 1}T12:00:00+00:00"),
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Recipe, Dataset, list[int]]]:
    """Replace training by something instant, and return what it was asked for."""
    calls = []

    def train(
        recipe: Recipe,
        images: Dataset,
        seeds: Iterable[int],
        *,
        workers: int | None,
        executor: None,
    ) -> Runs:
        calls.append((recipe, images, list(seeds)))
        return Runs(fake_run(recipe, seed) for seed in calls[-1][2])

    monkeypatch.setattr(sweep, "train", train)
    return calls


# Start-up and help.


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )


def test_version_and_help_import_nothing_slow() -> None:
    done = run_python(
        "import sys, bn_tutorial.cli\n"
        "for option in ('--version', '--help'):\n"
        "    try: bn_tutorial.cli.main([option])\n"
        "    except SystemExit as end: assert end.code in (None, 0), end.code\n"
        "slow = {'tensorflow', 'keras', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not slow, slow"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"bn-tutorial, version {bn_tutorial.__version__}\n")


def test_in_a_real_process_an_error_is_one_sentence_and_status_2() -> None:
    done = run_python("from bn_tutorial.cli import main\nmain(['train', '--depth', '0'])")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: depth=0 is impossible: it must be a whole number from 1.\n"


def test_without_a_command_comes_the_help() -> None:
    result = invoke()
    assert result.exit_code == 0
    assert result.stdout == invoke("--help").stdout
    for command in ("bench", "data", "evidence", "runs", "train"):
        assert re.search(rf"^  {command}  +\w", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["bench", "data", "evidence", "runs", "train"])
def test_every_option_is_explained(command: str) -> None:
    assert invoke(command, "--help").exit_code == 0
    for option in cli.main.commands[command].params:
        assert getattr(option, "help", None), option.name


def test_the_options_of_train_are_the_fields_of_a_recipe() -> None:
    command = cli.main.commands["train"]
    options = {option.name: option for option in command.params}
    shown = " ".join(invoke("train", "--help").stdout.split())
    described = inspect.getdoc(Recipe) or ""
    for field in dataclasses.fields(Recipe):
        option = options.pop(field.name)
        assert isinstance(option, click.Option)
        if field.name == "norm_options":
            continue
        name = f"--{field.name.replace('_', '-')}"
        assert option.opts == [name]
        first, *_ = described.partition(f"\n{field.name} : ")[2].splitlines()[1:]
        assert " ".join(first.replace("`", "").replace("None", "none").split()) in shown
        default = "the profile's, usually 10" if field.name == "epochs" else str(field.default)
        assert re.search(rf"{name} ((?!--).)+? {re.escape(f'[default: {default.lower()}]')}", shown)
        if allowed := choices(field.name):
            names = "|".join(one or "none" for one in allowed)
            assert f"{name} [{names}]" in re.sub(r"(?<=\|) ", "", shown)
        else:
            assert not str(option.metavar).startswith("[")
    assert set(options) == {"seeds", "source", "workers", "dask", "csv_file", "json_file"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field.name, value)
        for field in dataclasses.fields(Recipe)
        for value in choices(field.name) or ()
    ],
)
def test_every_choice_can_be_made(
    field: str, value: str | None, trained: list[tuple[Recipe, Dataset, list[int]]]
) -> None:
    option = f"--{field.replace('_', '-')}"
    model = "cnn" if value == "instance" else "mlp"  # each allows all others
    result = invoke("train", "--source", "sample", "--model", model, option, value or "none")
    assert result.exit_code == 0, result.output
    assert getattr(trained[0][0], field) == value


def test_workers_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def train(recipe: Recipe, *_: object, workers: int | None, executor: object) -> Runs:
        asked.append((workers, executor))
        return Runs([fake_run(recipe, 0)])

    monkeypatch.setattr(sweep, "train", train)
    assert invoke("train", "--source", "sample", "--workers", "3").exit_code == 0
    assert invoke("train", "--source", "sample").exit_code == 0
    assert asked == [(3, None), (None, None)]


# Training.


@pytest.mark.parametrize(
    ("args", "changes"),
    [
        ("", {}),
        ("--norm none --train-size none", {}),
        ("--norm batch --batch-size 64", {"norm": "batch", "batch_size": 64}),
        ("--model cnn --width 8 --depth 2", {"model": "cnn", "width": 8, "depth": 2}),
        ("--learning-rate 1e-2 --dropout 0.5", {"learning_rate": 0.01, "dropout": 0.5}),
        ("--initializer he_normal --init-scale 2", {"initializer": "he_normal", "init_scale": 2.0}),
        ("--inputs standardized --optimizer sgd", {"inputs": "standardized", "optimizer": "sgd"}),
        ("--activation tanh --epochs 4", {"activation": "tanh", "epochs": 4}),
        (
            "--norm layer --norm-position after --train-size 500",
            {"norm": "layer", "norm_position": "after", "train_size": 500},
        ),
        (
            "--norm batch --norm-option momentum=0.9 --norm-option center=false",
            {"norm": "batch", "norm_options": {"momentum": 0.9, "center": False}},
        ),
        (
            "--norm group --norm-option groups=4",
            {"norm": "group", "norm_options": {"groups": 4}},
        ),
    ],
)
def test_options_make_the_recipe(
    args: str, changes: dict[str, Any], trained: list[tuple[Recipe, Dataset, list[int]]]
) -> None:
    result = invoke("train", "--source", "sample", *args.split())
    assert result.exit_code == 0, result.output
    [(recipe, images, seeds)] = trained
    assert recipe == Recipe(**changes)
    assert images.is_sample
    assert seeds == [0, 1, 2]


def test_the_profile_decides_where_no_option_does(
    trained: list[tuple[Recipe, Dataset, list[int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "smoke")
    assert invoke("train").exit_code == 0
    assert invoke("train", "--seeds", "1", "--epochs", "7").exit_code == 0
    assert [(one.epochs, images.is_sample, seeds) for one, images, seeds in trained] == [
        (3, True, [0, 1]),
        (7, True, [0]),
    ]


def test_the_table_shows_every_seed_mean_and_interval(
    trained: list[tuple[Recipe, Dataset, list[int]]],
) -> None:
    lines = invoke("train", "--source", "sample").stdout.splitlines()
    rows = [line.split() for line in lines]
    for seed in range(3):
        found = [f"{start + seed:.2f}" for start in (25, 35, 45)]  # training, moving, population
        assert [str(seed), *found, "no", "1.5"] in rows
    # Student's t for 95 % and two degrees of freedom is 4.303; the deviation is 1
    half = f"{4.3027 / math.sqrt(3):.2f}"
    means = [word for mean in ("26.00", "36.00", "46.00") for word in (mean, "±", half)]
    assert ["mean", *means, "0", "of", "3", "1.5"] in rows
    assert "test," in "".join(lines)


def test_the_table_says_so_if_images_were_held_out(
    trained: list[tuple[Recipe, Dataset, list[int]]],
) -> None:
    shown = invoke("train", "--source", "sample", "--validation", "100").stdout
    assert "validation," in shown
    assert "test," not in shown


def test_one_seed_has_no_interval(trained: list[tuple[Recipe, Dataset, list[int]]]) -> None:
    shown = invoke("train", "--source", "sample", "--seeds", "1").stdout
    assert ["mean", "25.00", "35.00", "45.00", "0", "of", "1", "1.5"] in [
        line.split() for line in shown.splitlines()
    ]


def test_diverged_runs_are_shown_and_give_no_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sweep,
        "train",
        lambda recipe, *_, **__: Runs([fake_run(recipe, 0), fake_run(recipe, 1, diverged=True)]),
    )
    rows = [line.split() for line in invoke("train", "--source", "sample").stdout.splitlines()]
    assert ["1", "–", "–", "–", "epoch", "1", "1.5"] in rows
    assert ["mean", "–", "–", "–", "1", "of", "2", "1.5"] in rows


def test_csv_and_json_hold_the_frame(
    trained: list[tuple[Recipe, Dataset, list[int]]], tmp_path: Path
) -> None:
    csv_file, json_file = tmp_path / "out" / "runs.csv", tmp_path / "out" / "runs.json"
    csv_file.parent.mkdir()
    csv_file.write_text("old")
    args = "train --source sample --norm batch --norm-option momentum=0.9 --epochs 2"
    files = ("--csv", str(csv_file), "--json", str(json_file))
    assert invoke(*f"{args} --train-size 500".split(" "), *files).exit_code == 0
    recipe = trained[0][0]
    frame = Runs(fake_run(recipe, seed) for seed in range(3)).frame()
    readers: dict[str, Callable[[str], Any]] = {
        "norm_options": json.loads,
        "residual": lambda text: text or None,
    }
    read = pd.read_csv(csv_file, converters=readers)
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    records = json.loads(json_file.read_text("utf-8"))
    assert len(records) == 6
    assert records == frame.to_dict(orient="records")
    assert sorted(file.name for file in csv_file.parent.iterdir()) == ["runs.csv", "runs.json"]


def test_a_small_network_is_really_trained_and_stored(tmp_path: Path, home: Path) -> None:
    csv_file = tmp_path / "runs.csv"
    args = f"train --source sample --width 2 --batch-size 500 --epochs 2 --seeds 1 --csv {csv_file}"
    result = invoke(*args.split(" "))
    assert result.exit_code == 0, result.output
    [run] = RunStore().runs()
    assert run.recipe == Recipe(width=2, batch_size=500, epochs=2)
    assert f"{100 * run.history['val_accuracy'][-1]:.2f}" in result.stdout
    assert list(pd.read_csv(csv_file)["loss"]) == run.history["loss"]
    assert f"1 run in {home / 'runs'}\n" in invoke("runs").stdout


# Errors of the user.


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("nonsense", "No such command 'nonsense'"),
        ("train --dept 3", "No such option"),
        ("train --width wide", "Invalid value for '--width'"),
        ("train --width 0", "width=0 is impossible: it must be a whole number from 1."),
        ("train --norm btach", "Invalid value for '--norm': 'btach' is not one of 'none', 'batch'"),
        ("train --train-size some", "Invalid value for '--train-size'"),
        ("train --norm batch --norm-option momentum", "such as momentum=0.9."),
        ("train --norm batch --norm-option momentum=much", "such as momentum=0.9."),
        ("train --norm batch --norm-option momentum=2", "a momentum from 0"),
        ("train --norm-option momentum=0.9", "norm_options="),
        ("train --seeds 0", "Invalid value for '--seeds'"),
        ("train --workers 0", "Invalid value for '--workers'"),
        ("train --dropout-position under", "'under' is not one of 'after', 'before'"),
        ("train --source sample --train-size 2000", "there are 1000 training images."),
        ("train --source sample --batch-size 2000", "there are 1000 training images."),
        ("train --source nowhere/at/all", "does not exist"),
        ("data --source nowhere/at/all", "does not exist"),
        ("data --source store", "the local store holds no CIFAR-10 yet"),
        ("bench --epochs 0", "epochs=0 is impossible"),
        ("bench --batch-size 0", "batch_size=0 is impossible"),
        ("bench --source sample --batch-size 2000", "there are 1000 training images."),
        ("bench --norm layer", "Invalid value for '--norm'"),
    ],
)
def test_errors_of_the_user_are_one_sentence(
    args: str, message: str, trained: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "bench", lambda *_, **__: pytest.fail("it was started"))
    assert message in error_of(invoke(*args.split()))
    assert not trained


def test_evidence_is_held_against_another_build(home: Path, tmp_path: Path) -> None:
    judged = {"word": "supported", "repeats": 0.99}
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    result = invoke("evidence", "--json", str(ours))
    assert result.exit_code == 0
    assert result.output.count("not judged") > 30  # nothing has been run
    assert invoke("evidence", "--against", str(ours)).exit_code == 0
    content = json.loads(ours.read_text())
    content["claims"][3] |= judged
    theirs.write_text(json.dumps(content))
    result = invoke("evidence", "--against", str(theirs))
    assert result.exit_code == 1
    assert "8 of 9 claims" in result.output
    assert content["beyond"][0]["id"] in result.output
    theirs.write_text("{}")
    assert "is no ledger" in error_of(invoke("evidence", "--against", str(theirs)))


@pytest.mark.parametrize("command", ["data", "train", "bench"])
def test_an_unknown_profile_is_refused(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "fast")
    assert "there is no profile 'fast'" in error_of(invoke(command))


@pytest.mark.parametrize(
    "option", ["train --csv", "train --json", "bench --json", "evidence --json"]
)
@pytest.mark.parametrize("target", [".", "missing/file", "file/file", "/dev/null", "/dev/stdout"])
def test_an_unwritable_target_is_refused_before_anything_starts(
    option: str,
    target: str,
    tmp_path: Path,
    trained: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "bench", lambda *_, **__: pytest.fail("it was started"))
    monkeypatch.setattr(cifar10, "load_cifar10", lambda _: pytest.fail("data were loaded"))
    (tmp_path / "file").write_text("")
    result = invoke(*option.split(), str(tmp_path / target))
    assert "cannot write" in error_of(result)
    assert not trained


def test_both_tables_cannot_go_into_one_file(trained: list[object], tmp_path: Path) -> None:
    file = str(tmp_path / "table")
    assert "twice" in error_of(invoke("train", "--csv", file, "--json", file))
    assert not trained


def test_a_write_that_fails_at_the_end_leaves_the_old_file(
    trained: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "runs.csv"
    file.write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    result = invoke("train", "--source", "sample", "--csv", str(file))
    assert (result.exit_code, file.read_text()) == (2, "old")
    assert result.stderr == (
        f"Error: cannot write {file} (No space left on device): name another file.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    assert len(trained) == 1


def test_errors_that_are_not_the_users_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object, **__: object) -> Runs:
        raise ValueError("a bug")

    monkeypatch.setattr(sweep, "train", train)
    result = invoke("train", "--source", "sample")
    assert isinstance(result.exception, ValueError)


def test_an_interrupt_ends_with_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: object, **__: object) -> Runs:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "train", train)
    result = invoke("train", "--source", "sample")
    assert result.exit_code == 130
    assert "Traceback" not in result.output


@pytest.mark.filterwarnings("default")
def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch, tiny: Dataset) -> None:
    def load(_: str) -> Dataset:
        warnings.warn("CIFAR-10 could not\nbe had.", stacklevel=2)
        return tiny

    monkeypatch.setattr(cifar10, "load_cifar10", load)
    result = invoke("data")
    assert result.stderr == "Warning: CIFAR-10 could not be had.\n"


# Data.


def test_data_says_where_the_sample_is() -> None:
    result = invoke("data", "--source", "sample")
    assert result.exit_code == 0
    assert "1,000 for training, 500 for testing, 32 × 32 pixels, 10 classes" in result.stdout
    assert str(sample.FOLDER) in result.stdout
    assert sample.SHA256[:16] in result.stdout


@pytest.mark.parametrize("stored", [True, False])
def test_data_says_where_the_real_data_are(
    stored: bool, monkeypatch: pytest.MonkeyPatch, tiny: Dataset, home: Path
) -> None:
    monkeypatch.setattr(cifar10, "load_cifar10", lambda _: tiny)
    file = home / "data" / "cifar10.npz"
    if stored:
        settings.write(file, lambda out: out.write(bytes(2_500_000)))
    shown = invoke("data").stdout
    assert (f"{file} (2.5 MB)" in shown) == stored
    assert "official MD5" in shown
    assert tiny.digest in shown


# What is stored.


@pytest.fixture
def three_runs() -> RunStore:
    store = RunStore()
    for seed in range(2):
        store.put(f"key{seed}", fake_run(Recipe(norm="batch", epochs=2), seed))
    store.put("other", fake_run(Recipe(), 2, diverged=True))
    return store


def test_runs_lists_what_is_stored(three_runs: RunStore) -> None:
    lines = [" ".join(line.split()) for line in invoke("runs").stdout.splitlines()]
    first, second, third = (line for line in lines if "2024-05-0" in line)
    assert "35.00 %" in first
    assert "2024-05-01" in first
    assert "36.00 %" in second
    assert "baseline 2 diverged" in third
    assert any("batch norm" in line for line in lines)
    assert any(line.startswith("3 runs in") for line in lines)


def test_runs_names_the_engine_that_is_not_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = fake_run(Recipe(), 0)
    made = dataclasses.replace(run.provenance, engine="bn_tutorial.engines.notebook.fit")
    RunStore().put("key", dataclasses.replace(run, provenance=made))
    assert "(notebook)" in invoke("runs").stdout


def test_runs_of_an_empty_store(home: Path) -> None:
    result = invoke("runs")
    assert result.stdout == f"No runs are stored in {home / 'runs'}.\n"
    assert result.exit_code == 0
    assert not home.exists()


@pytest.mark.parametrize(
    ("args", "answer", "left"),
    [(["--clear"], "n\n", 3), (["--clear"], "y\n", 0), (["--clear", "--yes"], None, 0)],
)
def test_clear_deletes_after_asking(
    args: list[str], answer: str | None, left: int, three_runs: RunStore
) -> None:
    result = invoke("runs", *args, answer=answer)
    assert result.exit_code == 0
    assert len(three_runs.keys()) == left
    assert ("Deleted 3 runs." if not left else "Nothing was deleted.") in result.stdout
    assert ("Delete 3 runs" in result.stdout) == (answer is not None)


def test_yes_alone_deletes_nothing(three_runs: RunStore) -> None:
    assert invoke("runs", "--yes").exit_code == 0
    assert len(three_runs.keys()) == 3


def test_no_answer_deletes_nothing(three_runs: RunStore) -> None:
    assert invoke("runs", "--clear", answer="").exit_code == 130
    assert len(three_runs.keys()) == 3


def test_what_was_fetched_is_listed_and_can_be_deleted_alone(three_runs: RunStore) -> None:
    run = fake_run(Recipe(width=77), 0)
    made = dataclasses.replace(run.provenance, fetched="archive 12345678 of 2026-11-30")
    three_runs.fetched.put("a" * 32, dataclasses.replace(run, provenance=made))
    listed = invoke("runs").stdout
    assert "3 runs and 1 run that was fetched in" in listed
    assert listed.count("(fetched)") == 1
    assert "1 run that was fetched" in invoke("runs", "--clear", "--fetched", "--yes").stdout
    assert (len(three_runs.keys()), three_runs.fetched.keys()) == (3, [])
    assert "--fetched says what to delete" in error_of(invoke("runs", "--fetched"))
    assert "exclude each other" in error_of(invoke("runs", "--fetch", "x", "--clear"))


def test_an_archive_is_fetched_or_refused_in_one_sentence(
    tiny: Dataset, home: Path, tmp_path: Path
) -> None:
    assert "there is no " in error_of(invoke("runs", "--fetch", str(tmp_path / "nothing")))
    target = tmp_path / "runs.zip"
    target.write_bytes(b"PK")
    assert "is damaged or no archive of runs" in error_of(invoke("runs", "--fetch", str(target)))
    assert not home.exists()
    run = fake_run(Recipe(), 0)
    there = RunStore(tmp_path / "there")
    there.put(run_key(Recipe(), tiny, 0), run_on(tiny, run))
    about = {"commit": "c", "created": "2026-11-30", "profile": "smoke", "release": "1"}
    assert fetched.export(target, there, about) == 1
    said = invoke("runs", "--fetch", str(target)).stdout
    assert said.startswith(f"Fetched   1 run from {target}\nMade      2026-11-30, profile smoke")
    assert len(RunStore().fetched.keys()) == 1


def run_on(data: Dataset, run: Run) -> Run:
    images = {**run.provenance.data, "digest": data.digest}
    return dataclasses.replace(run, provenance=dataclasses.replace(run.provenance, data=images))


def test_a_storage_error_is_one_sentence(
    three_runs: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise settings.StorageError(f"cannot write {folder} (busy): free some space.")

    monkeypatch.setattr(settings, "remove", refuse)
    assert "(busy)" in error_of(invoke("runs", "--clear", "--yes"))


# The benchmark.


@pytest.fixture
def benched(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace the benchmark by something instant, and return what it was asked for."""
    asked: dict[str, Any] = {}

    def fake(
        images: Dataset,
        batch_sizes: Iterable[int],
        epochs: int,
        *,
        norms: Iterable[str | None],
        report: Callable[[str], object],
    ) -> speed.Benchmark:
        asked.update(batch_sizes=list(batch_sizes), epochs=epochs, norms=list(norms))
        report("epoch 1 of 1")
        return speed.Benchmark(
            (speed.Measurement(None, 8, {"notebook": [6.0], "library": [2.0], "floor": [1.0]}),),
            epochs=1,
            unit=900.0,
            provenance=MADE,
            peak_memory=None,
        )

    monkeypatch.setattr(speed, "bench", fake)
    return asked


def test_bench_shows_a_table_and_writes_json(benched: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "bench.json"
    result = invoke("bench", "--source", "sample", "--json", str(file))
    assert result.exit_code == 0
    assert benched == {"batch_sizes": [32, 256], "epochs": 10, "norms": [None]}
    assert result.stderr == "epoch 1 of 1\n"
    assert "mean nothing" in result.stdout
    [measurement] = json.loads(file.read_text("utf-8"))["measurements"]
    assert measurement["notebook_over_library"]["total"] == 3


def test_bench_hands_on_its_options(benched: dict[str, Any]) -> None:
    args = "bench --source sample --batch-size 8 --batch-size 16 --epochs 2 --norm batch"
    assert invoke(*args.split()).exit_code == 0
    assert benched == {"batch_sizes": [8, 16], "epochs": 2, "norms": [None, "batch"]}


def run_in(encoding: str, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own, whose terminal has another encoding."""
    command = [sys.executable, "-m", "bn_tutorial.cli", *arguments]
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    if shell:
        command = ["bash", "-c", f'"$@" {shell}', "bash", *command]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_terminal_that_lacks_letters_gets_question_marks(encoding: str) -> None:
    result = run_in(encoding, "train", "--help")
    assert (result.returncode, result.stderr) == (0, b"")


def test_results_are_saved_before_they_are_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: object) -> None:
        raise UnicodeEncodeError("ascii", "×", 0, 1, "not in range")

    monkeypatch.setattr(sweep, "train", lambda *_, **__: Runs([fake_run(Recipe(), 0)]))
    monkeypatch.setattr("bn_tutorial.cli.output.show", fail)
    CliRunner().invoke(
        cli.main, ["train", "--source", "sample", "--csv", str(tmp_path / "runs.csv")]
    )
    assert "val_accuracy" in (tmp_path / "runs.csv").read_text("utf-8")


@pytest.mark.skipif(os.name == "nt", reason="shells of Windows have another way to close it")
def test_without_a_standard_error_the_command_works() -> None:
    result = run_in("utf-8", "train", "--source", "sample", "--epochs", "1", shell="2>&-")
    assert result.returncode == 0
    assert "epochs 1" in result.stdout.decode()
