"""Images that worker processes share: arrays in files, mapped into the memory of each."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from bn_tutorial.data.dataset import Dataset
from bn_tutorial.training.executors import NoWorkers

_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
_REST = tuple(field.name for field in dataclasses.fields(Dataset) if field.name not in _ARRAYS)
_TEXTS = "texts.json"

#: Where this process has written images for others, for as long as it uses them itself.
_LENT: weakref.WeakKeyDictionary[Dataset, Path] = weakref.WeakKeyDictionary()

#: Where another process has written the images that this one uses.
_BORROWED: set[Path] = set()


def lend(data: Dataset) -> Path:
    """Write images into a temporary folder; it is deleted when this process needs them no more.

    Parameters
    ----------
    data : Dataset
        The images.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    NoWorkers
        If none can be written.
    """
    if data not in _LENT:
        try:
            folder = Path(tempfile.mkdtemp(prefix="bn_tutorial-images-"))
        except OSError as error:
            raise NoWorkers(f"the images cannot be written for workers: {error}.") from error
        weakref.finalize(data, _remove, folder, os.getpid())
        try:
            for name in _ARRAYS:
                np.save(folder / f"{name}.npy", getattr(data, name))
            texts = {name: getattr(data, name) for name in _REST}
            (folder / _TEXTS).write_text(json.dumps(texts), "utf-8")
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise NoWorkers(f"the images cannot be written for workers: {error}.") from error
        _LENT[data] = folder
    return _LENT[data]


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # and not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def borrow(folder: Path) -> Dataset:
    """Return the images that another process has written, without reading them all."""
    _BORROWED.add(folder)
    texts = json.loads((folder / _TEXTS).read_text("utf-8"))
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
    return Dataset(**arrays, **texts)


def inherit() -> None:
    """Delete what was borrowed: its owner was killed, and cannot."""
    for folder in _BORROWED:
        shutil.rmtree(folder, ignore_errors=True)
