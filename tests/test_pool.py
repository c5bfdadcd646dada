"""Worker processes of this machine. All but one test do without TensorFlow in the workers."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import executors, images, pool, progress, schedule
from bn_tutorial.training.executors import NoWorkers, WorkerError
from bn_tutorial.training.interrupt import ctrl_c
from bn_tutorial.training.pool import Workers
from bn_tutorial.training.runs import Runs
from bn_tutorial.training.schedule import Wanted
from bn_tutorial.training.store import RunStore
from bn_tutorial.training.sweep import train
from tests import engines
from tests.engines import until
from tests.test_training import expected

ROOT = Path(__file__).parents[1]
#: A network that takes milliseconds once XLA has compiled it, as it does from 150 steps on.
REAL = Recipe(norm="batch", width=8, batch_size=4, epochs=8)
SEEDS = range(4)


def outcomes(runs: Runs) -> list[list[Any]]:
    return [[run.recipe.label, run.seed, run.history] for run in runs]


@pytest.fixture(autouse=True)
def none_left() -> Iterator[None]:
    """End the workers of each test, with the environment that they have started in."""
    yield
    pool.stop()


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let workers do without TensorFlow; return the file in which their engines note their runs."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests/stand_in"), str(ROOT)]))
    monkeypatch.setenv("ENGINE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def two(log: Path) -> Iterator[Workers]:
    """Return two workers."""
    with Workers(2) as workers:
        yield workers


def trained(store: RunStore, engine: Any, workers: int = 2, seeds: Any = engines.SEEDS) -> Runs:
    """Train what `tests.test_training.expected` expects."""
    return train(
        engines.RECIPES, engines.dataset(), seeds, store=store, engine=engine, workers=workers
    )


def noted(log: Path) -> list[list[str]]:
    """Return which runs have begun, and in which process: normaliser, seed, process."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


# The same numbers, whoever trains


def test_processes_give_the_same_runs_bit_for_bit(
    tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = RunStore(tmp_path / "here"), RunStore(tmp_path / "there")
    alone = train(REAL, tiny, SEEDS, store=here)
    capsys.readouterr()
    runs = train(REAL, tiny, SEEDS, store=there, workers=2)
    assert outcomes(runs) == outcomes(alone)
    assert there.keys() == here.keys()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_workers_live_from_call_to_call(log: Path, store: RunStore) -> None:
    for seed in range(4):
        trained(store, engines.stalled, seeds=[seed])
    assert len(store.keys()) == 8
    assert len({process for *_, process in noted(log)}) == 2
    assert os.getpid() not in {int(process) for *_, process in noted(log)}


def test_a_terminal_shows_a_bar_for_each_worker(
    log: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(variable, raising=False)
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(progress, "REPORT_TO", screen)
    monkeypatch.setenv("TERM", "xterm")
    seen: list[int] = []
    call = progress.Bar.__call__

    def counted(bar: progress.Bar, epochs: int) -> None:
        seen.append(epochs)
        call(bar, epochs)

    monkeypatch.setattr(progress.Bar, "__call__", counted)
    trained(store, engines.counted)
    assert Counter(seen) == {0: 6, 1: 12}
    assert "[6/6] " in screen.getvalue()


# Nothing is lost, nothing is trained twice


def test_a_run_whose_worker_is_killed_is_trained_by_another(log: Path, store: RunStore) -> None:
    wait = log.with_name("wait")
    wait.touch()

    def kill() -> None:
        until(lambda: len(noted(log)) == 2)
        os.kill(int(noted(log)[0][2]), signal.SIGKILL)
        wait.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    runs = trained(store, engines.stalled)
    killer.join()
    assert outcomes(runs) == expected()
    assert len(store.keys()) == 6
    killed = noted(log)[0][:2]
    assert Counter((norm, seed) for norm, seed, _ in noted(log)) == {
        (str(one.norm), str(seed)): 1 + ([str(one.norm), str(seed)] == killed)
        for one in engines.RECIPES
        for seed in engines.SEEDS
    }


def test_a_run_that_kills_two_workers_is_given_up_and_the_rest_is_kept(
    log: Path, store: RunStore
) -> None:
    log.with_name("deadly").touch()
    log.write_text("one\ntwo\n")
    with pytest.raises(WorkerError, match=r"a run ended 2 worker processes.*\(exit status -9\)"):
        trained(store, engines.deadlier, workers=1 + 1, seeds=[0])
    log.with_name("deadly").unlink()
    assert outcomes(trained(store, engines.deadlier)) == expected()


@pytest.mark.parametrize("kill", [os.killpg, os.kill])  # as a terminal does, and another program
def test_ctrl_c_ends_workers_too_and_keeps_what_is_finished(
    home: Path, log: Path, kill: Callable[[int, int], None]
) -> None:
    for seed in (3, 4):
        log.with_name(f"wait {seed}").touch()
    process = command("train --source sample --width 4 --epochs 3 --seeds 500 --workers 2")
    assert process.stderr
    with process.stderr as stderr:
        lines = [stderr.readline() for _ in range(3)]
        until(lambda: {"3", "4"} <= {seed for _, seed, _ in noted(log)})
        kill(process.pid, signal.SIGINT)
        lines += stderr.readlines()  # to the end: no worker holds the pipe open
    assert process.wait() == 130
    *finished, last = filter(str.strip, lines)
    assert [line.split()[0] for line in finished] == ["[1/500]", "[2/500]", "[3/500]"]
    assert last == "Interrupted: 3 of 500 runs are finished and kept.\n"
    assert len(RunStore().keys()) == 3
    until(lambda: not any(is_alive(int(worker)) for *_, worker in noted(log)))


def test_ctrl_c_can_be_pressed_at_any_time(home: Path, log: Path) -> None:
    """Even when the worker has just begun, or the process is about to end."""
    log.with_name("wait").touch()
    process = command("train --source sample --width 4 --epochs 3 --seeds 500 --workers 2")
    until(lambda: noted(log))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert (process.returncode, said.strip()) == (
        130,
        "Interrupted: 0 of 500 runs are finished and kept.",
    )


def command(args: str) -> subprocess.Popen[str]:
    """Start the command line with an engine that notes its runs and may wait."""
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from bn_tutorial.training import sweep; from tests import engines; "
        "sweep.usual_engine = lambda recipe: engines.stalled; "
        "from bn_tutorial.cli import main; main()"
    )  # whoever runs the tests in the background has them start with SIGINT ignored
    return subprocess.Popen(
        [sys.executable, "-c", code, *args.split()],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        cwd=ROOT,
    )


def test_workers_end_when_their_client_is_killed(home: Path, log: Path, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    os.environ["TMPDIR"] = str(tmp_path / "temporary")  # the fixture of `log` has a copy
    log.with_name("wait").touch()
    try:
        process = command("train --source sample --width 4 --seeds 500 --workers 2")
    finally:
        del os.environ["TMPDIR"]
    until(lambda: len(noted(log)) == 2)
    assert len(list((tmp_path / "temporary").iterdir())) == 1  # the images
    process.kill()
    process.communicate()  # no worker holds the pipe open
    until(lambda: not any(is_alive(int(worker)) for *_, worker in noted(log)))
    until(lambda: not list((tmp_path / "temporary").iterdir()))


def test_ctrl_c_is_not_lost_where_python_ignores_exceptions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Thing:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    ignored: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda caught: ignored.append(caught.exc_type))
    with pytest.raises(KeyboardInterrupt), ctrl_c(at_once=True):
        Thing()
    assert ignored == [KeyboardInterrupt]
    with pytest.raises(KeyboardInterrupt), ctrl_c(at_once=False):
        signal.raise_signal(signal.SIGINT)  # and nobody asks before the end
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_whoever_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ctrl_c(at_once=True) as check:
            signal.raise_signal(signal.SIGINT)
            check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_error_in_a_worker_tells_where_and_cancels_the_rest(log: Path, store: RunStore) -> None:
    log.with_name("unwell").touch()
    with pytest.raises(RuntimeError, match="unwell") as found:
        trained(store, engines.unwell, seeds=range(50))
    assert 'raise RuntimeError("unwell")' in "".join(found.value.__notes__)
    assert store.keys() == []
    log.with_name("unwell").unlink()
    assert len(trained(store, engines.unwell)) == 6


# Where there can be no workers


def test_without_processes_this_one_trains_and_says_so(
    store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: Any, **__: Any) -> NoReturn:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert outcomes(trained(store, engines.counted)) == expected()
    first, *lines = capsys.readouterr().err.splitlines()
    assert "No worker processes here" in first
    assert "Resource temporarily unavailable" in first
    assert first.endswith(", so this process trains.")
    assert len(lines) == 6


def test_if_workers_do_not_start_this_process_trains(
    log: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pool, "_SCRIPT", "raise SystemExit(3)")
    assert outcomes(trained(store, engines.counted)) == expected()
    said = capfd.readouterr().err
    assert "No worker processes here (worker processes do not start (exit status 3).)" in said


# How many


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many workers were asked for; there are none."""
    counts: list[int] = []

    def none(count: int) -> NoReturn:
        counts.append(count)
        raise NoWorkers("none")

    monkeypatch.delenv(executors.WORKERS)
    monkeypatch.setattr(pool, "shared", none)
    monkeypatch.setattr(schedule, "usual_workers", lambda: 7)
    return counts


def test_workers_are_started_if_there_is_enough_to_do(
    tiny: Dataset, store: RunStore, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = Recipe(batch_size=10)
    train(small, tiny, store=store, engine=engines.counted)
    train(small.but(epochs=10**9), tiny, store=store, engine=engines.shortened)  # a single run
    assert asked == []
    train(
        [small.but(width=width) for width in range(1, 9)], tiny, store=store, engine=engines.counted
    )
    assert asked == [7]
    monkeypatch.setattr(pool, "running", lambda: True)
    train(small, tiny, [1], store=store, engine=engines.counted)
    assert asked == [7, 7]


def test_an_engine_that_workers_cannot_import_trains_here(
    tiny: Dataset, store: RunStore, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = ModuleType("__main__")  # a user's, whatever runs these tests
    script.__file__ = engines.__file__
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(engines.counted, "__module__", "__main__")
    many = [Recipe(batch_size=10, width=width) for width in range(1, 9)]
    assert len(train(many, tiny, store=store, engine=engines.counted)) == 8
    assert asked == []


def test_the_argument_counts_for_more_than_the_environment(
    tiny: Dataset, store: RunStore, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Recipe(batch_size=10)
    monkeypatch.setenv(executors.WORKERS, "3")
    train(one, tiny, store=store, engine=engines.counted)
    train(one, tiny, [1], store=store, engine=engines.counted, workers=5)
    train(one, tiny, [2], store=store, engine=engines.counted, workers=1)
    monkeypatch.setenv(executors.WORKERS, "1")
    monkeypatch.setenv(executors.DASK, "tcp://127.0.0.1:9")  # where nobody answers
    train(one, tiny, [3], store=store, engine=engines.counted)
    assert asked == [3, 5]


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5"])
def test_an_impossible_number_of_workers_is_refused(
    said: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(executors.WORKERS, said)
    with pytest.raises(WorkerError, match=f"BN_TUTORIAL_WORKERS={said} is impossible"):
        train(Recipe(batch_size=10), tiny, engine=engines.counted)


def test_workers_and_an_executor_exclude_each_other(tiny: Dataset) -> None:
    with Workers(1) as workers, pytest.raises(ValueError, match="without an executor"):
        train(Recipe(batch_size=10), tiny, workers=2, executor=workers)
    with pytest.raises(ValueError, match="workers=0 is impossible"):
        train(Recipe(batch_size=10), tiny, workers=0)


# The pool by itself


def test_a_worker_calls_functions_and_returns_what_they_return_or_raise(two: Workers) -> None:
    assert two.submit(divmod, 7, 2).result() == (3, 1)
    assert two.submit(int, "11", base=2).result() == 3
    with pytest.raises(ValueError, match="invalid literal") as found:
        two.submit(int, "text").result()
    assert "Raised in a worker" in found.value.__notes__[0]
    with pytest.raises(RuntimeError, match="Stubborn: 3"):
        two.submit(engines.stubborn, 3).result()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        two.submit(lambda: None)
    assert two.submit(os.getppid).result() == os.getpid()


def test_what_a_function_prints_disturbs_nobody(
    two: Workers, capfd: pytest.CaptureFixture[str]
) -> None:
    assert two.submit(print, "a line").result() is None
    assert two.submit(os.write, 1, b"bytes").result() == 5
    assert two.submit(input).exception() is not None  # there is nothing to read
    two.shutdown()
    assert capfd.readouterr().out == ""


def test_a_worker_that_has_grown_too_much_makes_room(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "MOST_MEMORY", 0)
    with Workers(1) as workers:
        processes = [workers.submit(os.getpid).result() for _ in range(3)]
    assert len(set(processes)) == 3
    assert not any(map(is_alive, processes))


def test_a_worker_that_has_grown_makes_room_before_another_program_is_compiled(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "ENOUGH_MEMORY", 0)
    with Workers(1) as workers:
        processes = [
            workers.send(os.getpid, wanted=Wanted(1, program)).result()
            for program in ("a", "a", "b", "b", "a", None, None)
        ]
    assert [processes.index(one) for one in processes] == [0, 0, 2, 2, 4, 5, 6]
    assert not any(map(is_alive, processes))


def test_jobs_of_one_program_go_to_one_worker(two: Workers) -> None:
    futures = [
        (name, two.send(engines.busy, wanted=Wanted(1, name))) for _ in range(8) for name in "ab"
    ]
    found = Counter((name, future.result()) for name, future in futures)
    # whoever is done with its own first helps the other one, which on a busy machine may be much
    assert found.most_common(1)[0][1] >= 7


def test_nothing_else_runs_beside_what_must_be_alone(log: Path) -> None:
    with Workers(4) as workers:
        futures = [
            workers.send(engines.entering, str(log), name, wanted=Wanted(1, cores=cores))
            for name, cores in [*[("many", 1)] * 8, *[("alone", math.inf)] * 2, *[("many", 1)] * 8]
        ]
        for future in futures:
            future.result()
    inside = 0
    for line in log.read_text().splitlines():
        name, way = line.split()
        inside += 1 if way == "in" else -1
        assert name != "alone" or inside == (way == "in")
    assert inside == 0


def test_what_is_abandoned_ends_and_the_workers_go_on(two: Workers, log: Path) -> None:
    wait = log.with_name("wait")
    wait.touch()
    futures = [two.submit(engines.waiting, str(log)) for _ in range(5)]
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
    two.abandon(futures)
    for future in futures:
        with pytest.raises(CancelledError):
            future.result()
    assert two.submit(divmod, 7, 2).result() == (3, 1)


# What goes first


def test_the_longest_go_first_if_they_would_keep_all_waiting() -> None:
    jobs = [Wanted(5, "a"), Wanted(60, "b"), Wanted(5, "a")]
    assert schedule.choose(jobs, "a", {"b"}, 2, 2) == 1


def test_a_worker_stays_with_its_program_and_takes_another_that_is_free() -> None:
    jobs = [Wanted(5, name) for name in "abbcccaabbcc"]
    assert schedule.choose(jobs, "a", {"b", "c"}, 2, 2) == 0
    assert schedule.choose(jobs, None, {"b", "c"}, 2, 2) == 0
    assert schedule.choose(jobs, None, {"a"}, 2, 2) == 3
    assert schedule.choose(jobs, None, {"a", "b", "c"}, 2, 2) == 3  # it helps where most is left


def test_no_worker_compiles_for_what_another_has_done_by_then() -> None:
    jobs = [Wanted(schedule.COMPILING * 2 / 3, "b")] * 2
    assert schedule.choose(jobs, "a", {"b"}, 1, 2) is None
    assert schedule.choose(jobs, "b", {"b"}, 1, 2) == 0
    assert schedule.choose([*jobs, Wanted(0.1, "a")], "a", {"b"}, 1, 2) == 2
    assert schedule.choose(jobs, "a", {"c"}, 1, 2) == 0  # nobody else has compiled it
    assert schedule.choose(jobs * 2, "a", {"b"}, 1, 2) == 0  # there is more left
    assert schedule.choose([Wanted(0.1)], "a", {None}, 1, 2) == 0  # there is no program


def test_what_needs_more_cores_than_are_free_waits() -> None:
    jobs = [Wanted(9, "a", cores=2), Wanted(1, "b"), Wanted(99, "c", cores=math.inf)]
    assert schedule.choose(jobs, None, {None}, 1, 2) == 1
    assert schedule.choose(jobs[:1], None, {None}, 1, 2) is None
    assert schedule.choose(jobs, None, {None}, 2, 2) == 2
    assert schedule.choose(jobs[:1], None, set(), 1, 1) == 0  # where there is only one
    assert schedule.choose([], None, set(), 1, 1) is None


def test_estimates_are_in_the_right_order(tiny: Dataset) -> None:
    def seconds(**fields: Any) -> float:
        return schedule.seconds(Recipe(batch_size=10, **fields), tiny)

    assert seconds(epochs=20) > seconds(epochs=10) > 0
    assert seconds(width=1024) > seconds()
    assert seconds(depth=3) > seconds()
    assert seconds(train_size=50) < seconds()
    for model in ("cnn", "gru"):
        assert seconds(model=model, width=32, depth=2) > seconds(model=model, width=16)


def test_the_number_of_cores_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= schedule.cores() <= (os.cpu_count() or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    limits = {"cpu.max": "max 100000", "memory.max": "max"}
    monkeypatch.setattr(schedule, "_limit", limits.get)
    assert schedule.cores() == 8
    limits["cpu.max"] = "250000 100000"
    assert schedule.cores() == 3
    limits["memory.max"] = "3200000000"
    assert schedule.usual_workers() == 2
    limits["memory.max"] = "1000"
    assert schedule.usual_workers() == 1


# Images


def test_images_are_mapped_from_files_as_long_as_they_are_used(tiny: Dataset) -> None:
    data = dataclasses.replace(tiny.subset(50), source="a sample", is_sample=True)
    folder = images.lend(data)
    assert images.lend(data) == folder
    borrowed = images.borrow(folder)
    for field in dataclasses.fields(data):
        np.testing.assert_array_equal(getattr(borrowed, field.name), getattr(data, field.name))
    base = borrowed.x_train
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    del data
    assert not folder.exists()
    images._BORROWED.discard(folder)


def test_without_a_place_for_images_this_process_trains(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny.subset(60)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(NoWorkers, match="the images cannot be written for workers"):
        images.lend(data)


def test_a_fork_leaves_images_and_workers_to_their_owner(tiny: Dataset) -> None:
    folder = images.lend(data := tiny.subset(70))
    images._remove(folder, owner=os.getpid() + 1)
    assert folder.exists()
    images._remove(folder, owner=os.getpid())
    assert not folder.exists()
    del data


def test_an_error_of_a_run_is_not_taken_for_a_want_of_workers(store: RunStore) -> None:
    with pytest.raises(FileNotFoundError, match="no such thing"):
        trained(store, engines.missing)


def test_a_worker_without_its_images_says_so(
    log: Path, store: RunStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = engines.dataset().subset(20)
    monkeypatch.setattr(images, "lend", lambda data: other)
    with pytest.raises(WorkerError, match="images are not those that were asked for"):
        trained(store, engines.counted)
    monkeypatch.setattr(images, "lend", lambda data: tmp_path / "gone")
    with pytest.raises(WorkerError, match="a worker has no images"):
        trained(store, engines.counted)


def test_an_engine_that_workers_cannot_import_is_refused(store: RunStore) -> None:
    def engine(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("it was called")

    with pytest.raises(ValueError, match="function of a module"):
        trained(store, engine)


def test_no_workers_is_a_kind_of_worker_error() -> None:
    assert issubclass(NoWorkers, WorkerError)
