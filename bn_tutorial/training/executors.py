"""Workers on other machines: a Dask cluster, as an executor."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor

#: Names the scheduler of the Dask cluster that trains what is trained without saying where.
DASK = "BN_TUTORIAL_DASK"

#: How many worker processes train what is trained without saying where.
WORKERS = "BN_TUTORIAL_WORKERS"

#: For how long a scheduler may be silent.
DASK_SECONDS = 5


class WorkerError(RuntimeError):
    """Workers cannot do what they were asked for; the message says what to do."""


class NoWorkers(WorkerError):
    """There can be no worker processes here."""


@contextlib.contextmanager
def dask(address: str) -> Iterator[Executor]:
    """Connect to a Dask cluster, and take leave of it afterwards.

    Parameters
    ----------
    address : str
        Of the scheduler, for instance ``"tcp://192.168.0.7:8786"``.

    Yields
    ------
    Executor
        For `bn_tutorial.train`.

    Raises
    ------
    WorkerError
        If the package ``distributed`` is missing, no scheduler answers, a worker lacks this
        package, or a run ended one worker after another.

    Warns
    -----
    UserWarning
        If the cluster has no worker yet.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise WorkerError(
            "a Dask cluster needs the package distributed: pip install distributed."
        ) from error
    try:
        with ThreadPoolExecutor(1) as thread:  # a notebook's own thread runs an event loop already
            thread.submit(asyncio.run, _greet(address)).result()
        client = Client(address, timeout=DASK_SECONDS, set_as_default=False)
    except (OSError, TypeError, ValueError, MemoryError) as error:  # a web page is read as a size
        raise WorkerError(
            f"no Dask scheduler answers at {address!r}: start one with “dask scheduler”, and give "
            "the address that it prints, such as tcp://192.168.0.7:8786 (for tls:// Dask's "
            "configuration must name the certificates)."
        ) from error
    with client:
        found = client.run(importlib.util.find_spec, __package__, on_error="ignore")
        for worker, spec in found.items():
            if spec is None:
                raise WorkerError(
                    f"the Dask worker at {worker} has no {__package__}: install the version there "
                    "that is used here."
                )
        if not found:
            warnings.warn(
                f"the Dask cluster at {address} has no worker yet; training waits for one: "
                f"start it with “dask worker {address} --nthreads 1”.",
                stacklevel=3,
            )
        try:
            yield client.get_executor(pure=False)  # or a run that failed would fail for good
        except KilledWorker as error:
            raise WorkerError(
                "a run ended one Dask worker after another, most likely for want of memory: start "
                "fewer workers on each machine, then run again; what is finished is kept."
            ) from error


async def _greet(address: str) -> None:
    """See whether a scheduler answers: Dask's client would wait for ever for some that do not."""
    from distributed.comm import connect
    from distributed.security import Security

    secrets = Security().get_connection_args("client")
    comm = await asyncio.wait_for(connect(address, **secrets), DASK_SECONDS)
    await comm.close()


@contextlib.contextmanager
def given(executor: Executor | None) -> Iterator[Executor]:
    """Yield the executor, or connect to the Dask cluster that ``BN_TUTORIAL_DASK`` names."""
    if executor:
        yield executor
    else:
        with dask(os.environ[DASK]) as cluster:
            yield cluster


def workers() -> int | None:
    """Return how many workers ``BN_TUTORIAL_WORKERS`` asks for; None if it does not say.

    Raises
    ------
    WorkerError
        If it says something impossible.
    """
    text = os.environ.get(WORKERS)
    if not text:
        return None
    if not text.isdecimal() or not int(text):
        raise WorkerError(f"{WORKERS}={text} is impossible: it must be a whole number from 1.")
    return int(text)


def check() -> None:
    """Check that the workers that the environment names, if any, can be had.

    Raises
    ------
    WorkerError
        If not; the message says what to do.
    """
    if workers() is None and os.environ.get(DASK):
        with given(None):
            pass
