"""Training by the workers of an executor: threads, and a Dask cluster.

All but one test do without TensorFlow in the cluster.
"""

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
import sys
import threading
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
from bn_tutorial.engines.workbench import Engine
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import executors, keys, sweep, worker
from bn_tutorial.training.executors import WorkerError
from bn_tutorial.training.runs import Runs
from bn_tutorial.training.store import RunStore
from bn_tutorial.training.sweep import train
from tests import engines
from tests.engines import until
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


def without_tensorflow(patched: pytest.MonkeyPatch) -> None:
    """Let processes that are started from now on do without TensorFlow."""
    patched.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "tests/stand_in"), str(ROOT)]))


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file in which engines, in processes started from now on, note their runs."""
    monkeypatch.setenv("ENGINE_LOG", str(tmp_path / "log"))
    without_tensorflow(monkeypatch)
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
    """Start a Dask cluster of two worker processes, which do without TensorFlow."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("ENGINE_LOG", str(folder / "log"))
        without_tensorflow(patched)
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


def test_a_dask_cluster_gives_the_same_runs_bit_for_bit(
    tiny: Dataset, serial: Runs, store: RunStore
) -> None:
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
        ) as real,
        executors.dask(real.scheduler_address) as workers,
    ):
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
    monkeypatch.delenv(executors.WORKERS)
    monkeypatch.setenv(executors.DASK, cluster.scheduler_address)
    executors.check()
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
    monkeypatch.setattr(Dataset, "__reduce__", lambda self: pytest.fail("it was pickled"))
    recipe = Recipe(batch_size=500, epochs=1)
    (run,) = train(recipe, sample, store=store, engine=engines.counted, executor=workers)
    assert run.provenance.data["digest"] == sample.digest


def test_a_worker_without_images_says_so(
    tiny: Dataset, store: RunStore, workers: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "source_of", lambda data: "store")
    with pytest.raises(WorkerError, match="has no images") as found:
        train(Recipe(batch_size=10), tiny, store=store, engine=engines.counted, executor=workers)
    assert str(found.value).endswith(": run “bn-tutorial data” on its machine.")


def test_threads_use_the_images_of_this_process(
    tiny: Dataset, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "source_of", lambda data: "store")
    with ThreadPoolExecutor(1) as pool:
        train(Recipe(batch_size=10), tiny, store=store, engine=engines.counted, executor=pool)
    assert len(store.keys()) == 1
    assert worker._KEPT.bench is None


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
        until(lambda: log.exists() and len(log.read_text().splitlines()) == 2)
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


def test_ctrl_c_leaves_no_task_on_a_cluster(
    cluster: Any, store: RunStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "_finished", interrupted)
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
    until(lambda: not cluster.scheduler.tasks)
    assert len(store.keys()) <= 2


def test_a_scheduler_that_dies_is_an_error_that_says_so(store: RunStore, log: Path) -> None:
    log.with_name("wait").touch()
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0"
    ) as mortal:

        def end() -> None:
            until(log.exists)
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
        f"keras is {there['keras']} there and 3.0.0 here): "
        "install the same versions there and here, or start both anew after an edit."
    )


def test_a_worker_with_another_python_is_refused_for_that(
    asked: Callable[[Engine], WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "python_version_tuple", lambda: ("3", "99", "1"))
    monkeypatch.setattr(keys, "digests", lambda module: ("as 3.99 parses it",))
    there = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"(python is {there} there and 3.99 here): install" in str(asked(engines.counted))


def test_a_worker_with_other_code_is_refused(
    asked: Callable[[Engine], WorkerError], monkeypatch: pytest.MonkeyPatch
) -> None:
    digests, edited = keys.digests, "bn_tutorial.networks.layers"
    monkeypatch.setattr(
        keys, "digests", lambda module: ("edited",) if module == edited else digests(module)
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
    monkeypatch.setattr(executors, "__package__", "no_such_package")
    with (
        pytest.raises(WorkerError, match=r"^the Dask worker at tcp://.* has no no_such_package: "),
        executors.dask(cluster.scheduler_address),
    ):
        pass


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
    monkeypatch.setattr(executors, "DASK_SECONDS", 0.5)
    with listening(b"HTTP/1.0 400 Bad request\r\n\r\n") as address:
        closed = "tcp://127.0.0.1:9"
        for place in (address, closed, "tls://127.0.0.1:9", "nonsense", "http://127.0.0.1:8787"):
            said = error_of("--dask", place)
            assert said.startswith(f"Error: no Dask scheduler answers at {place!r}: start one")
    monkeypatch.delenv(executors.WORKERS)
    monkeypatch.setenv(executors.DASK, "nowhere")
    assert "answers at 'nowhere'" in error_of()


def test_without_distributed_one_learns_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install distributed" in error_of("--dask", "tcp://127.0.0.1:9")


def test_one_cannot_have_both_processes_and_a_cluster() -> None:
    assert "exclude each other" in error_of("--dask", "tcp://127.0.0.1:9", "--workers", "2")
