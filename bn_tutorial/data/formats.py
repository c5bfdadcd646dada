"""The forms in which CIFAR-10 is published, and what every copy of it is checked against."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bn_tutorial.data.dataset import Dataset, Labels, Pixels

Records = dict[str, Pixels]  # batch name -> (n, 3073): label, red, green and blue plane

OFFICIAL_MD5 = {  # of the six files of the binary version
    "data_batch_1": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
PICKLE_MD5 = {  # of the six files of the Python version
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
TRAINING = tuple(name for name in OFFICIAL_MD5 if name != "test_batch")
NPM_LABELS = {"train_lables": TRAINING, "test_lables": ("test_batch",)}  # spelt like this

_WANTED = {
    *OFFICIAL_MD5,
    *(f"{name}.{kind}" for name in OFFICIAL_MD5 for kind in ("bin", "png")),
    *(f"{name}.json" for name in NPM_LABELS),
}
UNREADABLE = (  # what reading a damaged or foreign file raises
    OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, SyntaxError,
    zlib.error, zipfile.BadZipFile, tarfile.TarError, pickle.UnpicklingError,
    Image.DecompressionBombError,
)  # fmt: skip


# From files to records.


def files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and contents of the files that matter in a folder or tar archive."""
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.name in _WANTED and file.is_file():
                yield file.name, file.read_bytes()
        return
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            name = member.name.rpartition("/")[2]
            content = archive.extractfile(member) if name in _WANTED else None
            if content is not None:
                yield name, content.read()


def parse(files: Iterable[tuple[str, bytes]]) -> Records:
    """Return the batches that are in some files, whatever published form these have."""
    records: Records = {}
    strips: Records = {}
    labels: dict[str, list[int]] = {}
    for file, content in files:
        name, _, kind = file.partition(".")
        if kind == "bin":
            records[name] = _parse_binary(content)
        elif kind == "png":
            strips[name] = _parse_strip(content)
        elif kind == "json":
            labels[name] = json.loads(content)
        else:
            records[name] = _parse_pickle(name, content)
    if strips:
        for file, names in NPM_LABELS.items():
            ends = np.cumsum([len(strips[name]) for name in names])
            for name, part in zip(names, np.split(np.array(labels[file]), ends)[:-1], strict=True):
                records[name] = _records(strips.pop(name), part)
    return records


def _parse_binary(content: bytes) -> Pixels:
    return np.frombuffer(content, np.uint8).reshape(-1, 3073)


def _parse_strip(content: bytes) -> Pixels:
    """Decode a PNG with one image a row; return it as (n, 3, 32, 32)."""
    with Image.open(io.BytesIO(content), formats=["PNG"]) as strip:
        return np.asarray(strip.convert("RGB")).reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def _parse_pickle(name: str, content: bytes) -> Pixels:
    """Unpickle a batch, but only the very file that was published."""
    if md5(content) != PICKLE_MD5[name]:
        raise ValueError(f"{name} is not the official file")
    batch = _Unpickler(io.BytesIO(content), encoding="latin1").load()
    return _records(batch["data"], batch["labels"])


class _Unpickler(pickle.Unpickler):
    """Knows NumPy arrays and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("numpy", "dtype"):  # NumPy 2.4.0 to 2.4.4 mind 0 and 1
            return lambda kind, align, copy: np.dtype(kind, bool(align), bool(copy))
        if (module, name) in {("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct")}:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong in it")


def _records(planes: npt.ArrayLike, labels: npt.ArrayLike) -> Pixels:
    """Join images, colour planes first, and labels in the layout of the binary version."""
    pixels = np.asarray(planes, np.uint8)
    records = np.empty((len(pixels), 3073), np.uint8)
    records[:, :1] = np.asarray(labels).reshape(-1, 1)
    records[:, 1:].reshape(-1, 3, 32, 32)[...] = pixels.reshape(-1, 3, 32, 32)
    return records


def verified(records: Mapping[str, Pixels]) -> Records:
    """Return the records if each batch has the official MD5; raise ValueError otherwise."""
    for name, official in OFFICIAL_MD5.items():
        if name not in records:
            raise ValueError(f"{name} is missing")
        batch = records[name]
        if (
            batch.dtype != np.uint8
            or batch.shape[1:] != (3073,)
            or md5(np.ascontiguousarray(batch).data) != official
        ):
            raise ValueError(f"{name} differs from the official one")
    return dict(records)


def md5(content: bytes | memoryview) -> str:
    """Return the MD5 of some bytes, as hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


# From records to images.


def to_dataset(records: Records, source: str) -> Dataset:
    """Return verified records as a `Dataset`."""
    return Dataset(
        *_arrays([records[name] for name in TRAINING]),
        *_arrays([records["test_batch"]]),
        source=source,
    )


def _arrays(batches: list[Pixels]) -> tuple[Pixels, Labels]:
    planes = [batch[:, 1:].reshape(-1, 3, 32, 32) for batch in batches]
    images = np.empty((sum(map(len, batches)), 32, 32, 3), np.uint8)
    np.concatenate([plane.transpose(0, 2, 3, 1) for plane in planes], out=images)
    return images, np.concatenate([batch[:, 0] for batch in batches]).astype(np.int32)
