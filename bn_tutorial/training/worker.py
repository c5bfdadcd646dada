"""What a worker does: train a run just as its client would, or say why it cannot.

`work` is what workers of every kind are asked for; `main` is the life of a worker process of
`bn_tutorial.training.pool`.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from bn_tutorial import settings
from bn_tutorial.data.cifar10 import load_cifar10
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.data.sources import DataError
from bn_tutorial.engines import lockstep, rows
from bn_tutorial.engines.rows import History
from bn_tutorial.engines.workbench import Engine, Workbench
from bn_tutorial.training import images, keys
from bn_tutorial.training.executors import WorkerError
from bn_tutorial.training.provenance import Provenance
from bn_tutorial.training.runs import Run
from bn_tutorial.training.schedule import Task
from bn_tutorial.training.store import RunStore

Tell = Callable[[int], object]
T = TypeVar("T")


def train_together(
    tasks: Sequence[Task],
    bench: Workbench,
    tell: Tell = lambda epochs: None,
    unstored: Callable[[settings.StorageError], object] = lambda error: None,
) -> list[Run]:
    """Train and store runs that go together; for what another process is training, wait.

    Parameters
    ----------
    tasks : sequence of Task
        One, or several of one recipe, which are trained in lockstep.
    bench : Workbench
        With the images.
    tell : callable
        Is given 0 when training begins, and then 1 after each epoch.
    unstored : callable
        Is given the error if a run cannot be stored.
    """
    with contextlib.ExitStack() as locks:
        for task in tasks:
            locks.enter_context(_alone(task.store, task.key))
        runs = {task.key: run for task in tasks if (run := task.store.get(task.key))}
        missing = [task for task in tasks if task.key not in runs]
        if missing:
            started = time.perf_counter()
            tell(0)
            histories = _histories(missing, bench, tell)
            seconds = round((time.perf_counter() - started) / len(missing), 2)
            for task, history in zip(missing, histories, strict=True):
                name = keys.engine_name(task.engine)
                made = Provenance.here(bench.data, engine=name, seconds=seconds)
                runs[task.key] = Run(task.recipe, task.seed, history, made)
                keep(task, runs[task.key], unstored)
        return [runs[task.key] for task in tasks]


def _histories(tasks: Sequence[Task], bench: Workbench, tell: Tell) -> list[History]:
    one, seeds = tasks[0], [task.seed for task in tasks]
    bench.turn_to(one.engine)
    with _as_usual():
        if len(tasks) == 1:
            return [rows.collect(_told(one.engine(bench, one.recipe, one.seed), tell))]
        found = lockstep.fit_together(bench, one.recipe, seeds)
        histories = rows.collect_each(_told(found, tell), seeds)
        return [histories[seed] for seed in seeds]


def _as_usual() -> contextlib.AbstractContextManager[None]:
    """Let Keras's global settings be the usual ones, if an engine has loaded it."""
    loaded = sys.modules.get("bn_tutorial.networks.backend")
    return loaded.usual() if loaded else contextlib.nullcontext()


def _told(found: Iterable[T], tell: Tell) -> Iterator[T]:
    for row in found:
        tell(1)
        yield row


def keep(task: Task, run: Run, unstored: Callable[[settings.StorageError], object]) -> None:
    """Store a run, or say that it cannot be stored."""
    try:
        task.store.put(task.key, run)
    except settings.StorageError as error:
        unstored(error)


@contextlib.contextmanager
def _alone(store: RunStore, key: str) -> Iterator[None]:
    """Let one process at a time train this run; go on without if the store is unwritable."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(settings.StorageError):
            stack.enter_context(settings.lock(store.path(key)))
        yield


# A worker of any kind


class _Kept:
    """What a worker keeps from job to job: the images, and with them the compiled programs."""

    def __init__(self) -> None:
        self.turn = threading.Lock()  # a worker's threads share the programs, so they take turns
        self.bench: Workbench | None = None

    def on(self, digest: str, load: Callable[[], Dataset]) -> Workbench:
        """Return a bench with the images of that digest."""
        if self.bench is None or self.bench.data.digest != digest:
            self.forget()
            self.bench = Workbench(load())
            if self.bench.data.digest != digest:
                raise WorkerError("a worker's images are not those that were asked for.")
        return self.bench

    def forget(self) -> None:
        """Let go of all."""
        if self.bench is not None:
            self.bench.close()
            self.bench = None


_KEPT = _Kept()


@contextlib.contextmanager
def lent(data: Dataset) -> Iterator[None]:
    """Let workers that are threads of this process use these images, for a while."""
    with _KEPT.turn:
        _KEPT.on(data.digest, lambda: data)
    try:
        yield
    finally:
        with _KEPT.turn:
            _KEPT.forget()


def pack(task: Task) -> bytes:
    """Pack a task for `work`, with what its run depends on besides.

    It is packed by us, so that a worker that cannot unpack it can say so.

    Raises
    ------
    ValueError
        If workers cannot import the engine.
    """
    if not is_importable(task.engine):
        raise ValueError("workers cannot import this engine: make it a function of a module.")
    return pickle.dumps((keys.setting_of(task.engine), task))


def is_importable(engine: Engine) -> bool:
    """Return whether another process can import an engine."""
    return engine.__module__ != "__main__" and engine.__qualname__ == engine.__name__


def work(packed: bytes, where: bytes, digest: str, tell: Tell = lambda epochs: None) -> Run:
    """Train one run, in a worker.

    Parameters
    ----------
    packed : bytes
        What `pack` returned.
    where : bytes
        A pickle of the images, of a source of `load_cifar10`, or of a folder of
        `bn_tutorial.training.images`.
    digest : str
        That of the images.
    tell : callable
        As for `train_together`.

    Raises
    ------
    WorkerError
        If this worker would not train as its client does, or has no images.
    """
    same = "install the same versions there and here, or start both anew after an edit."
    with _KEPT.turn:
        try:
            setting, task = pickle.loads(packed)
        except (ImportError, AttributeError) as error:
            raise WorkerError(f"a worker lacks what a run needs ({error}): {same}") from error
        found = keys.differences(setting, keys.setting_of(task.engine))
        if found:
            raise WorkerError(
                f"a worker would not train as this process does ({', '.join(found)}): {same}"
            )
        try:
            bench = _KEPT.on(digest, lambda: _load(pickle.loads(where)))
        except (DataError, FileNotFoundError) as error:
            raise WorkerError(
                f"a worker has no images ({str(error).rstrip('.')}): run “bn-tutorial data” "
                "on its machine."
            ) from error
        (run,) = train_together([task], bench, tell)
        return run


def _load(where: Dataset | str | Path) -> Dataset:
    if isinstance(where, Path):
        return images.borrow(where)
    return load_cifar10(where) if isinstance(where, str) else where


# A worker process


def main() -> None:
    """Do what is asked for on standard input; end when that ends, whatever is being done.

    So a worker never outlives the process that started it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    asked, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with Path(os.devnull).open("rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # whatever is printed must stay out of the answers

    def answer(*content: object) -> None:
        pickle.dump(content, answers)
        answers.flush()

    def do(job: bytes) -> bytes:
        function, args, tells = pickle.loads(job)
        more = {"tell": lambda value: answer("told", value)} if tells else {}
        return pickle.dumps(function(*args, **more))

    def done(future: Future[bytes]) -> None:
        error = future.exception()
        result = pickle.dumps(_portable(error)) if error else future.result()
        answer("done", error is None, result, memory())

    answer("ready")
    thread = ThreadPoolExecutor(1)
    try:
        while True:
            thread.submit(do, pickle.load(asked)).add_done_callback(done)
    except (EOFError, pickle.UnpicklingError):  # the client has ended, perhaps amidst a word
        images.inherit()
        if hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)  # and what it has started: replicas
        os._exit(0)


def _portable(error: BaseException) -> BaseException:
    """Return an error that survives pickling, with a note of where it was raised."""
    raised = "".join(traceback.format_exception(error)).rstrip()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 (an exception's own way of unpickling may raise anything)
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"Raised in a worker:\n{raised}")
    return error


def memory() -> int:
    """Return how many bytes of memory are this process's own; 0 where the system does not tell."""
    try:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text("utf-8").split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
