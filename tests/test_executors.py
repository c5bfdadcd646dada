"""Training by workers: in threads, in processes of this machine, and on a Dask cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import distributed
import pytest
from click.testing import CliRunner

from bn_tutorial import cli
from bn_tutorial.data.cifar10 import DIGEST, load_cifar10, source_of, store_path
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines.program import Engine, Workbench, collect
from bn_tutorial.engines.single import fit
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import executors, sweep
from bn_tutorial.training.executors import WorkerError
from bn_tutorial.training.runs import Runs, RunStore
from bn_tutorial.training.sweep import train
from tests import engines
from tests.test_training import Process, expected

ROOT = Path(__file__).parents[1]
#: A network that takes milliseconds once XLA has compiled it, as it does from 150 steps on.
REAL = Recipe(norm="batch", width=8, batch_size=4, epochs=8)
SEEDS = range(4)


def outcomes(runs: Runs) -> list[list[Any]]:
    return [[run.recipe.label, run.seed, run.history] for run in runs]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which engines, in processes started from now on, note their runs."""
    monkeypatch.setenv("ENGINE_LOG", str(tmp_path / "log"))
    return tmp_path / "log"


@pytest.fixture(scope="module")
def serial(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return what this process makes of `REAL`."""
    return train(REAL, tiny, SEEDS, store=RunStore(tmp_path_factory.mktemp("serial")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the log, and perhaps a store, of the cluster's engines."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[Any]:
    """Start a Dask cluster of two worker processes."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ENGINE_LOG", str(folder / "log"))
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as started:
            yield started


@pytest.fixture
def workers(cluster: Any, folder: Path) -> Iterator[Executor]:
    """Connect to the cluster, with an empty log."""
    (folder / "log").unlink(missing_ok=True)
    with executors.dask(cluster.scheduler_address) as executor:
        yield executor


# The same numbers, wherever they are computed


def test_processes_give_the_same_runs_bit_for_bit(
    tiny: Dataset, serial: Runs, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with executors.processes(2) as pool:
        runs = train(REAL, tiny, SEEDS, store=store, executor=pool)
    assert outcomes(runs) == outcomes(serial)
    assert len(store.keys()) == 4
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]


def test_a_dask_cluster_gives_the_same_runs_bit_for_bit(
    tiny: Dataset, serial: Runs, store: RunStore, workers: Executor
) -> None:
    runs = train(REAL, tiny, SEEDS, store=store, executor=workers)
    assert outcomes(runs) == outcomes(serial)
    assert len(store.keys()) == 4
    assert outcomes(train(REAL, tiny, SEEDS, store=store)) == outcomes(serial)


def test_threads_take_turns_and_give_the_same_runs_bit_for_bit(
    tiny: Dataset, serial: Runs, store: RunStore
) -> None:
    with ThreadPoolExecutor(4) as pool:
        runs = train(REAL, tiny, SEEDS, store=store, executor=pool)
    assert outcomes(runs) == outcomes(serial)


def test_the_cluster_that_the_environment_names_trains(
    cluster: Any,
    workers: Executor,
    folder: Path,
    store: RunStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(executors.VARIABLE, cluster.scheduler_address)
    train(Recipe(), engines.dataset(), store=store, engine=engines.stalled)
    assert int((folder / "log").read_text().split()[-1]) != os.getpid()


# Images


def test_images_travel_by_name_where_they_have_one(
    tiny: Dataset, store: RunStore, workers: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = load_cifar10("sample")
    reference = json.loads((ROOT / "docs/ledger/reference.json").read_text())
    assert reference["provenance"]["data"]["digest"] == DIGEST
    assert (source_of(sample), source_of(tiny), source_of(sample.subset(10))) == (
        "sample",
        None,
        None,
    )
    recipe = Recipe(width=4, batch_size=500, epochs=1)
    here = collect(fit(Workbench(sample), recipe, 0))
    monkeypatch.setattr(Dataset, "__reduce__", lambda self: pytest.fail("it was pickled"))
    (run,) = train(recipe, sample, store=store, executor=workers)
    assert run.history == here


def test_a_worker_without_images_says_so(
    tiny: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "source_of", lambda data: "store")
    with executors.processes(1) as pool, pytest.raises(WorkerError, match="has no images") as found:
        train(Recipe(batch_size=10), tiny, store=store, engine=engines.counted, executor=pool)
    assert str(found.value).endswith(": run “bn-tutorial data” on its machine.")


def test_threads_use_the_images_of_this_process(
    tiny: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "source_of", lambda data: "store")
    with ThreadPoolExecutor(1) as pool:
        train(Recipe(batch_size=10), tiny, store=store, engine=engines.counted, executor=pool)
    assert len(store.keys()) == 1
    assert not sweep._IMAGES


def test_official_images_have_a_name_only_where_they_are_stored(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = dataclasses.replace(tiny)  # whose digest is not known yet
    monkeypatch.setattr(Dataset, "digest", DIGEST)
    assert source_of(official) is None
    store_path().parent.mkdir(parents=True)
    store_path().touch()
    assert source_of(official) == "store"


# Nothing is lost, nothing is trained twice


def test_a_run_whose_worker_is_killed_is_trained_by_another(
    store: RunStore, workers: Executor, folder: Path
) -> None:
    log, wait = folder / "log", folder / "wait"
    wait.touch()

    def kill() -> None:
        while not log.exists() or len(log.read_text().splitlines()) < 2:
            time.sleep(0.01)
        os.kill(int(log.read_text().split()[2]), signal.SIGKILL)
        wait.unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    runs = train(
        engines.RECIPES,
        engines.dataset(),
        engines.SEEDS,
        store=store,
        engine=engines.stalled,
        executor=workers,
    )
    killer.join()
    assert outcomes(runs) == expected()
    assert len(store.keys()) == 6
    lines = log.read_text().splitlines()
    killed = lines[0].rpartition(" ")[0]
    began = Counter(line.rpartition(" ")[0] for line in lines)
    assert began == {
        f"{one.norm} {seed}": 1 + (f"{one.norm} {seed}" == killed)
        for one in engines.RECIPES
        for seed in engines.SEEDS
    }


def test_a_cluster_and_another_process_train_each_run_once(
    workers: Executor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "device", lambda: "cpu")
    other = Process(folder)
    try:
        assert other.hear() == "ready"
        other.begin()
        runs = train(
            engines.RECIPES,
            engines.dataset(),
            engines.SEEDS,
            store=RunStore(folder / "runs"),
            engine=engines.logged,
            executor=workers,
        )
        assert outcomes(runs) == json.loads(other.hear()) == expected()
    finally:
        other.end()
    assert sorted((folder / "log").read_text().splitlines()) == sorted(
        f"{one.norm} {seed}" for one in engines.RECIPES for seed in engines.SEEDS
    )


def test_a_pool_that_breaks_keeps_what_is_finished(store: RunStore, log: Path) -> None:
    wanted = (engines.RECIPES, engines.dataset(), engines.SEEDS)
    log.with_name("deadly").touch()
    with (
        executors.processes(1) as pool,
        pytest.raises(WorkerError, match="what is finished is kept, so run again"),
    ):
        train(*wanted, store=store, engine=engines.deadly, executor=pool)
    assert len(store.keys()) == 2
    with ThreadPoolExecutor(1) as pool:
        runs = train(*wanted, store=store, engine=engines.deadly, executor=pool)
    assert outcomes(runs) == expected()
    assert len(log.read_text().splitlines()) == 7  # the third run was trained anew


class Elsewhere(Executor):
    """A worker on a machine whose folder of the same name is another one."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args))
        for path in Path(os.environ["BN_TUTORIAL_HOME"]).rglob("*.json"):
            path.unlink()
        return future


def test_a_worker_that_does_not_share_the_folder_returns_its_runs(tiny: Dataset) -> None:
    wanted = Recipe(batch_size=10, epochs=2)
    runs = train(wanted, tiny, range(2), engine=engines.counted, executor=Elsewhere())
    assert sorted(RunStore().runs(), key=lambda run: run.seed) == list(runs)


@pytest.mark.parametrize("kill", [os.killpg, os.kill])  # as a terminal does, and another program
def test_ctrl_c_ends_workers_too_and_keeps_what_is_finished(
    home: Path, kill: Callable[[int, int], None]
) -> None:
    command = "train --source sample --width 4 --epochs 3 --seeds 500 --workers 1"
    process = subprocess.Popen(
        [sys.executable, "-c", "from bn_tutorial.cli import main; main()", *command.split()],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr
    with process.stderr as stderr:
        lines = [stderr.readline() for _ in range(3)]
        kill(process.pid, signal.SIGINT)
        lines += stderr.readlines()  # to the end: no worker holds the pipe open
    assert process.wait() == 130
    *progress, last = filter(str.strip, lines)
    assert all(re.match(r"\[\d+/500\] ", line) for line in progress), lines
    assert last == f"Interrupted: {len(progress)} of 500 runs are finished and kept.\n"
    assert len(progress) <= len(RunStore().keys()) < 500


def test_ctrl_c_leaves_no_task_on_a_cluster(
    cluster: Any, store: RunStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(futures: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "as_completed", interrupted)
    (folder / "log").unlink(missing_ok=True)
    (folder / "wait").touch()
    with pytest.raises(KeyboardInterrupt), executors.dask(cluster.scheduler_address) as workers:
        train(
            Recipe(),
            engines.dataset(),
            range(50),
            store=store,
            engine=engines.stalled,
            executor=workers,
        )
    (folder / "wait").unlink()
    until = time.monotonic() + 20
    while cluster.scheduler.tasks and time.monotonic() < until:
        time.sleep(0.01)
    assert not cluster.scheduler.tasks
    assert len(store.keys()) <= 2


def test_a_scheduler_that_dies_is_an_error_that_says_so(store: RunStore, log: Path) -> None:
    log.with_name("wait").touch()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as mortal:

        def end() -> None:
            while not log.exists():
                time.sleep(0.01)
            mortal.close()

        thread = threading.Thread(target=end)
        thread.start()
        with (
            pytest.raises(WorkerError, match="the connection to the workers was lost"),
            executors.dask(mortal.scheduler_address) as workers,
        ):
            train(
                Recipe(), engines.dataset(), store=store, engine=engines.stalled, executor=workers
            )
        thread.join()


def test_what_failed_on_a_cluster_can_be_tried_again(
    store: RunStore, workers: Executor, folder: Path
) -> None:
    wanted = Recipe(), engines.dataset()
    (folder / "unwell").touch()
    with pytest.raises(RuntimeError, match="unwell") as kept:  # and with it, Dask's future
        train(*wanted, store=store, engine=engines.unwell, executor=workers)
    (folder / "unwell").unlink()
    train(*wanted, store=store, engine=engines.unwell, executor=workers)
    assert len(store.keys()) == 1
    del kept


# What is refused


@pytest.fixture
def asked(tiny: Dataset, store: RunStore, workers: Executor) -> Callable[[Engine], WorkerError]:
    """Return a function that asks the cluster for a run, and returns its refusal."""

    def ask(engine: Engine) -> WorkerError:
        with pytest.raises(WorkerError) as found:
            train(Recipe(batch_size=10), tiny, store=store, engine=engine, executor=workers)
        assert store.keys() == []
        return found.value

    return ask


def test_a_worker_with_other_versions_is_refused(
    asked: Callable[[Engine], WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = backend.versions()
    monkeypatch.setattr(backend, "versions", lambda: {**there, "keras": "3.0.0"})
    monkeypatch.setattr(backend, "device", lambda: "abacus")
    assert str(asked(engines.counted)) == (
        "a worker would not train as this process does (the device is cpu there and abacus here, "
        f"keras is {there['keras']} there and 3.0.0 here): install the same versions there and here."
    )


def test_a_worker_with_another_python_is_refused_for_that(
    asked: Callable[[Engine], WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "1"))
    monkeypatch.setattr(sweep, "_code_digest", lambda module: "as 3.99 parses it")
    there = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"(python is {there} there and 3.99 here): install" in str(asked(engines.counted))


def test_a_worker_with_other_code_is_refused(
    asked: Callable[[Engine], WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = sweep._code_digest
    edited = importlib.import_module("bn_tutorial.networks.layers")
    monkeypatch.setattr(
        sweep, "_code_digest", lambda module: "edited" if module is edited else digest(module)
    )
    assert "(the code of bn_tutorial.networks.layers differs): install" in str(
        asked(engines.counted)
    )


def test_a_worker_that_lacks_the_engine_is_refused(
    asked: Callable[[Engine], WorkerError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "only_here.py").write_text("def engine(bench, recipe, seed): ...")
    monkeypatch.syspath_prepend(tmp_path)
    only_here = importlib.import_module("only_here")
    assert "lacks what a run needs (No module named 'only_here'): install the same" in str(
        asked(only_here.engine)
    )


def test_a_worker_without_the_library_is_refused(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "__package__", "no_such_package")
    with (
        pytest.raises(WorkerError, match=r"^the Dask worker at tcp://.* has no no_such_package: "),
        executors.dask(cluster.scheduler_address),
    ):
        pass


def test_an_engine_that_workers_cannot_import_is_refused(tiny: Dataset, store: RunStore) -> None:
    def engine(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("it was called")

    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="function of a module"):
        train(Recipe(batch_size=10), tiny, store=store, engine=engine, executor=pool)


def test_an_error_in_a_worker_cancels_the_rest(
    tiny: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines.calls.clear()
    with ThreadPoolExecutor(1) as pool, pytest.raises(ZeroDivisionError):
        train(
            Recipe(batch_size=10),
            tiny,
            range(50),
            store=store,
            engine=engines.failing,
            executor=pool,
        )
    assert len(engines.calls) == len(store.keys()) == 2


# Clusters that cannot be had


def test_a_run_that_kills_worker_after_worker_is_given_up(
    cluster: Any, store: RunStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster.scheduler, "allowed_failures", 0)
    (folder / "log").write_text("one\ntwo\n")
    (folder / "deadly").touch()
    with (
        pytest.raises(WorkerError, match=r"^a run ended one Dask worker after another"),
        executors.dask(cluster.scheduler_address) as workers,
    ):
        train(Recipe(), engines.dataset(), store=store, engine=engines.deadly, executor=workers)
    (folder / "deadly").unlink()


def test_a_cluster_without_workers_is_waited_for_with_a_word() -> None:
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.warns(UserWarning, match="has no worker yet; training waits for one: start it"),
        executors.dask(empty.scheduler_address),
    ):
        pass


@contextlib.contextmanager
def listening(answer: bytes) -> Iterator[str]:
    """Yield the address of something that is no scheduler."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.append(connection)
                    connection.sendall(answer)

        connections: list[socket.socket] = []
        thread = threading.Thread(target=talk)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for connection in connections:
            connection.close()


def error_of(*args: str) -> str:
    result = CliRunner().invoke(cli.main, ["train", "--source", "sample", *args])
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(r"Error: \S[^\n]*\.\n", result.stderr)
    return result.stderr


def test_whoever_is_no_scheduler_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "DASK_SECONDS", 0.5)
    with listening(b"HTTP/1.0 400 Bad request\r\n\r\n") as address:
        closed = "tcp://127.0.0.1:9"
        for place in (address, closed, "tls://127.0.0.1:9", "nonsense", "http://127.0.0.1:8787"):
            said = error_of("--dask", place)
            assert said.startswith(f"Error: no Dask scheduler answers at {place!r}: start one")
    monkeypatch.setenv(executors.VARIABLE, "nowhere")
    assert "answers at 'nowhere'" in error_of()


def test_without_distributed_one_learns_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install distributed" in error_of("--dask", "tcp://127.0.0.1:9")


def test_one_cannot_have_both_processes_and_a_cluster() -> None:
    assert "exclude each other" in error_of("--dask", "tcp://127.0.0.1:9", "--workers", "2")
