"""What the environment says: the folder where data, runs and evidence are kept, and the profile.

``BN_TUTORIAL_HOME`` names the folder; without that variable it is the platform's user cache
folder. Every file in it is written whole or not at all, so a process killed at any moment
leaves nothing half-written behind. ``BN_TUTORIAL_PROFILE`` names the budget of the experiments,
and ``BN_TUTORIAL_SEEDS_FROM`` the first of their seeds. ``BN_TUTORIAL_FETCHED`` says what becomes of
runs that were fetched.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO, TypeVar

from filelock import FileLock
from platformdirs import user_cache_path

T = TypeVar("T")


class StorageError(OSError):
    """The storage folder cannot be read or written; the message says what to do."""


def home() -> Path:
    """Return the storage folder (it need not exist yet)."""
    named = os.environ.get("BN_TUTORIAL_HOME")
    try:
        return (
            Path(named).expanduser() if named else user_cache_path("bn_tutorial", appauthor=False)
        )
    except RuntimeError as error:
        raise StorageError(
            f"there is no home folder ({str(error).rstrip('.')}): name a folder in BN_TUTORIAL_HOME."
        ) from error


def write(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Create or replace a file in one step.

    Parameters
    ----------
    path : Path
        The file; missing parent folders are made.
    fill : callable
        Is given a binary file open for writing and writes the contents.

    Raises
    ------
    StorageError
        If the folder cannot be written or the disk is full. The old file, if there was
        one, is unharmed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        Path(name).unlink(missing_ok=True)


def lock(path: Path) -> FileLock:
    """Return a lock between processes for `path` (use it in a ``with`` statement).

    The operating system frees it when its holder ends, however it ends.

    Raises
    ------
    StorageError
        If the lock file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = FileLock(path.with_name(f".{path.name}.lock"))
        with guard.acquire():  # so that an unwritable folder is reported here
            pass
    except OSError as error:
        raise _unwritable(path, error) from error
    return guard


def set_aside(path: Path, reason: str) -> None:
    """Rename a file that cannot be used, and warn; nothing is deleted."""
    aside = path.with_name(f"{path.name}.unusable")
    try:
        path.replace(aside)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise _unwritable(path, error) from error
    warnings.warn(
        f"{path.name} in {path.parent} {reason}; it was set aside as {aside.name}.", stacklevel=2
    )


def remove(folder: Path) -> None:
    """Delete a folder and all that is in it, if it is there.

    Raises
    ------
    StorageError
        If something in it cannot be deleted.
    """
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {path} ({error.strerror or error}): "
        "free some space or name a writable folder in BN_TUTORIAL_HOME."
    )


# Profiles: the same experiments on three budgets


@dataclasses.dataclass(frozen=True)
class Profile:
    """How much data, and how many seeds and epochs, an experiment may use.

    Parameters
    ----------
    name : str
        ``smoke``, ``standard`` or ``full``.
    source : str
        Where the data comes from; see `load_cifar10`.
    seeds : int
        Seeds per recipe where runs are long, or nothing is on trial.
    most_seeds : int
        At most so many seeds, whatever the hypotheses plan.
    epochs : int
        Epochs of the assignment's runs.
    subset, validation : int
        Training images, and images held out of the training set, beyond the assignment. The
        usual batch sizes divide the first, as a smaller last batch would be compiled a second time;
        the second is scored in as large parts as the test images, if these divide it.
    """

    name: str
    source: str
    seeds: int
    most_seeds: int
    epochs: int
    subset: int
    validation: int

    def grid(self, values: Iterable[T]) -> list[T]:
        """Return the values that an experiment should go through: in ``smoke`` only the ends."""
        values = list(values)
        return values[:: max(len(values) - 1, 1)] if self.name == "smoke" else values


#: Seeds of an experiment whose hypotheses plan none.
SEEDS = 5

PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", "sample", 2, 2, epochs=3, subset=512, validation=250),
        Profile("standard", "auto", 3, 1_000, epochs=10, subset=5_120, validation=2_500),
        Profile("full", "auto", 3, 1_000, epochs=10, subset=44_800, validation=5_000),
    )
}


def first_seed() -> int:
    """Return the first seed of all experiments, which ``BN_TUTORIAL_SEEDS_FROM`` names; else 0.

    Raises
    ------
    ValueError
        If it is no whole number from 0.
    """
    named = os.environ.get("BN_TUTORIAL_SEEDS_FROM") or "0"
    if not named.isdecimal():
        raise ValueError(f"BN_TUTORIAL_SEEDS_FROM is {named!r}: it must be a whole number from 0.")
    return int(named)


#: What may become of fetched runs: used before one's own, for what is not computed yet, or not at all.
FETCHED = ("first", "rest", "never")


def fetched() -> str:
    """Return which of `FETCHED` the variable ``BN_TUTORIAL_FETCHED`` says; ``rest`` if it says none.

    Raises
    ------
    ValueError
        If there is no such word.
    """
    named = os.environ.get("BN_TUTORIAL_FETCHED") or "rest"
    if named not in FETCHED:
        raise ValueError(f"BN_TUTORIAL_FETCHED is {named!r}: it must be {', '.join(FETCHED)}.")
    return named


def profile() -> Profile:
    """Return the profile that ``BN_TUTORIAL_PROFILE`` names; ``standard`` if it names none.

    Raises
    ------
    ValueError
        If there is no profile of that name.
    """
    name = os.environ.get("BN_TUTORIAL_PROFILE") or "standard"
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}: choose {', '.join(PROFILES)}.")
    return PROFILES[name]
