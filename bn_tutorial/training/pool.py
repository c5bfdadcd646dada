"""Worker processes on this machine, which live as long as the process that uses them.

A worker is a Python process of its own, started by hand and not by `multiprocessing`, which would
run an unguarded script a second time. Jobs go to it through its standard input, one at a time, and
when that ends, it ends: so workers never outlive the process that started them, however it ends.
It is in a session of its own, where no Ctrl-C reaches it. A thread here looks after each worker.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Executor, Future
from typing import Any

from bn_tutorial.training.executors import NoWorkers, WorkerError
from bn_tutorial.training.schedule import Wanted, choose

_SCRIPT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from bn_tutorial.training.worker import main; main()"
)

#: Memory, in bytes, from which on a worker makes room for a new one: before it turns to another
#: program, as compiling one takes the memory; and when its job is done.
ENOUGH_MEMORY, MOST_MEMORY = 0.8e9, 1.2e9

#: How many workers may die of a job.
ATTEMPTS = 2


@dataclasses.dataclass(eq=False)
class _Job:
    asked: bytes
    tell: Callable[[Any], object] | None
    wanted: Wanted
    future: Future[Any] = dataclasses.field(default_factory=Future)
    attempts: int = 0
    abandoned: bool = False

    def give_up(self) -> None:
        """End the wait of whoever waits for it."""
        if not self.future.cancel() and not self.future.done():
            self.future.set_exception(CancelledError())


class Workers(Executor):
    """Worker processes, started as they are needed.

    Parameters
    ----------
    count : int
        How many at most, from 1.

    Raises
    ------
    NoWorkers
        If no process can be started.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.changed = threading.Condition()
        self.spare = [start()]  # it gets ready while its first job is prepared
        self._waiting: list[_Job] = []
        self._keepers: dict[threading.Thread, _Keeper] = {}
        self._closed = False
        atexit.register(self.shutdown, cancel_futures=True)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a function of a module called in a worker."""
        return self.send(functools.partial(fn, **kwargs), *args)

    def send(
        self,
        function: Callable[..., Any],
        /,
        *args: Any,
        tell: Callable[[Any], object] | None = None,
        wanted: Wanted | None = None,
    ) -> Future[Any]:
        """Have a function of a module called in a worker, when it is its turn.

        Parameters
        ----------
        function : callable
            It, its arguments and what it returns must be picklable.
        *args
            Its arguments.
        tell : callable, optional
            Is called here, in another thread, with what the function, which is given a ``tell``
            then, tells on the way.
        wanted : Wanted, optional
            When and where it is best done.

        Returns
        -------
        concurrent.futures.Future
            If the worker dies, another one takes the job; if that dies, too, the future raises
            `WorkerError`.
        """
        job = _Job(pickle.dumps((function, args, tell is not None)), tell, wanted or Wanted())
        with self.changed:
            if self._closed:
                raise RuntimeError("these workers are gone.")
            self._waiting.append(job)
            idle = sum(keeper.job is None for keeper in self._keepers.values())
            if len(self._waiting) > idle and len(self._keepers) < self.count:
                keeper = _Keeper(self)
                thread = threading.Thread(target=keeper.run, name="bn-worker", daemon=True)
                self._keepers[thread] = keeper
                thread.start()
            self.changed.notify_all()
        return job.future

    def abandon(self, futures: Iterable[Future[Any]]) -> None:
        """Give up jobs, also those that workers are at; these workers are killed."""
        futures = set(futures)
        with self.changed:
            for job in [job for job in self._waiting if job.future in futures]:
                self._waiting.remove(job)
                job.give_up()
            for keeper in self._keepers.values():
                if keeper.job and keeper.job.future in futures:
                    keeper.job.abandoned = True
                    keeper.kill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Do what is left, or with `cancel_futures` give it up, and end the workers."""
        with self.changed:
            self._closed = True
            if cancel_futures:
                self.abandon(
                    [job.future for job in self._waiting]
                    + [keeper.job.future for keeper in self._keepers.values() if keeper.job]
                )
            self.changed.notify_all()
        while self.spare:
            end(self.spare.pop())
        if wait:
            for thread in tuple(self._keepers):
                thread.join()
        atexit.unregister(self.shutdown)

    def next_job(self, keeper: _Keeper) -> _Job | None:
        """Wait until there is something to do for a worker; return None if there never will be."""
        with self.changed:
            keeper.job = None
            self.changed.notify_all()  # cores became free
            while True:
                others = [one for one in self._keepers.values() if one is not keeper]
                busy = sum(
                    min(one.job.wanted.cores, self.count) for one in others if one.job is not None
                )
                found = choose(
                    [job.wanted for job in self._waiting],
                    keeper.program,
                    {one.program for one in others},
                    int(self.count - busy),
                    self.count,
                )
                if found is not None:
                    keeper.job = self._waiting.pop(found)
                    keeper.program = keeper.job.wanted.program
                    return keeper.job
                if self._closed and not self._waiting:
                    return None
                self.changed.wait()

    def again(self, job: _Job) -> None:
        """Put a job back whose worker died."""
        with self.changed:
            self._waiting.append(job)


class _Keeper:
    """What looks after one worker process, in a thread of its own."""

    def __init__(self, workers: Workers) -> None:
        self.workers = workers
        self.job: _Job | None = None
        self.program: object = None
        self.full_of: object = None  # the program that has taken enough memory, if one has
        self.process: subprocess.Popen[bytes] | None = None
        self.ready = False

    def run(self) -> None:
        """Have one job after the other done."""
        try:
            while job := self.workers.next_job(self):
                if job.attempts or job.future.set_running_or_notify_cancel():
                    self._do(job)
        finally:
            self.end()

    def _do(self, job: _Job) -> None:
        job.attempts += 1
        try:
            fine, result = self._answer(job)
        except (EOFError, OSError, pickle.UnpicklingError):  # perhaps amidst a word
            ready, status = self.ready, self.end()
            if job.abandoned:
                job.give_up()
            elif job.attempts < ATTEMPTS:
                self.workers.again(job)
            else:
                job.future.set_exception(_death(ready, status))
        except BaseException as error:  # noqa: BLE001 (nobody but the future can be told)
            self.end()
            job.future.set_exception(error)
        else:
            (job.future.set_result if fine else job.future.set_exception)(result)

    def _answer(self, job: _Job) -> tuple[bool, Any]:
        """Return whether a job went well, and what came of it."""
        program = job.wanted.program
        if self.full_of is not None and (program is None or program != self.full_of):
            self.end()
        with self.workers.changed:
            if job.abandoned:
                raise EOFError
            self.program = program
            if self.process is None:
                self.process = self.workers.spare.pop() if self.workers.spare else start()
        assert self.process.stdin
        assert self.process.stdout
        pickle.dump(job.asked, self.process.stdin)
        self.process.stdin.flush()
        while True:
            kind, *content = pickle.load(self.process.stdout)
            if kind == "ready":
                self.ready = True
            elif kind == "told" and job.tell:
                job.tell(*content)
            elif kind == "done":
                fine, packed, memory = content
                if memory > ENOUGH_MEMORY:
                    self.full_of = program if program is not None else self
                if memory > MOST_MEMORY:
                    self.end()
                return fine, pickle.loads(packed)

    def kill(self) -> None:
        """Kill the process, which its thread notices."""
        if self.process:
            kill(self.process)

    def end(self) -> int | None:
        """End the process, if there is one; return its exit status."""
        with self.workers.changed:  # so that nobody kills a process that is gone
            process, self.process = self.process, None
            self.program, self.full_of, self.ready = None, None, False
        return end(process) if process else None


def start() -> subprocess.Popen[bytes]:
    """Start a worker process.

    Raises
    ------
    NoWorkers
        If no process can be started.
    """
    try:
        return subprocess.Popen(
            [sys.executable or "", "-c", _SCRIPT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # on Windows
        )
    except OSError as error:
        raise NoWorkers(f"worker processes cannot be started: {error}.") from error


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker process and all that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def end(process: subprocess.Popen[bytes]) -> int:
    """Kill a worker process, clear up after it, and return its exit status."""
    if process.poll() is None:
        kill(process)
    with contextlib.suppress(OSError), process:  # closes the pipes, and waits
        pass
    return process.wait()


def _death(ready: bool, status: int | None) -> WorkerError:
    if not ready:
        return NoWorkers(f"worker processes do not start (exit status {status}).")
    return WorkerError(
        f"a run ended {ATTEMPTS} worker processes, one after the other (exit status {status}), most "
        "likely for want of memory: what is finished is kept, so run again with fewer workers."
    )


#: The workers of this process, if it has any.
_SHARED: list[Workers] = []


def forget() -> None:
    """Leave the workers to the process that started them."""
    while _SHARED:
        atexit.unregister(_SHARED.pop().shutdown)


if hasattr(os, "register_at_fork"):  # a fork has no threads to look after them
    os.register_at_fork(after_in_child=forget)


def shared(count: int) -> Workers:
    """Return the workers of this process; with another number of them they are started anew."""
    if _SHARED and _SHARED[0].count != count:
        stop()
    if not _SHARED:
        _SHARED.append(Workers(count))
    return _SHARED[0]


def running() -> bool:
    """Return whether this process has workers."""
    return bool(_SHARED)


def stop() -> None:
    """End the workers of this process; the next training starts others.

    They see the environment as it was when they started.
    """
    while _SHARED:
        _SHARED.pop().shutdown(cancel_futures=True)
