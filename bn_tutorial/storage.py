"""The folder on disk where data, runs and evidence are kept.

``BN_TUTORIAL_HOME`` names it; without that variable it is the platform's user cache
folder. Every file in it is written whole or not at all, so a process killed at any
moment leaves nothing half-written behind.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock
from platformdirs import user_cache_path


class StorageError(OSError):
    """The storage folder cannot be read or written; the message says what to do."""


def home() -> Path:
    """Return the storage folder (it need not exist yet)."""
    named = os.environ.get("BN_TUTORIAL_HOME")
    return Path(named).expanduser() if named else user_cache_path("bn_tutorial", appauthor=False)


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
