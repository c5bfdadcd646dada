"""Runs as one file that travels: a zip of JSON with a manifest, believed only if all of it fits.

In the zip lie ``manifest.json`` and ``runs/<key>.json``, each run as the store keeps it. The
manifest says who made the runs, with what code each engine trained, and the SHA-256 of every file.
A run's key is a digest of what decides its numbers, whatever machine they come from; it is computed
anew from what a file holds. Nothing is unpickled, and nothing is unpacked to a path that an
archive names.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from bn_tutorial import settings
from bn_tutorial.training import store
from bn_tutorial.training.runs import Run

NAME = "runs.zip"
MANIFEST = "manifest.json"
KIND, FORMAT = "runs of bn_tutorial", 1

#: Limits of what is read: of an archive, of one file in it, of all of them, and how many there are.
MOST_BYTES, MOST_OF_ONE, MOST_OF_ALL, MOST_FILES = 64 << 20, 4 << 20, 512 << 20, 20_000
_RUN = re.compile(r"runs/([0-9a-f]{32})\.json")
_TEXT = re.compile(r"[^<>&\x00-\x1f\x7f]{0,200}")  # what a page can show as it is
_DAMAGED = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError),
    *(EOFError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error),
)


class ArchiveError(RuntimeError):
    """An archive of runs cannot be had or used; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Archive:
    """What an archive holds, verified.

    Parameters
    ----------
    runs : dict of str to Run
        By `key_of`, each as it was computed.
    code : dict of str to str
        By engine, with its module: `bn_tutorial.training.keys.code_digest` of that module.
    about : dict of str to str
        Who made it: the site's ``commit``, ``profile`` and ``release``, and when (``created``).
    digest : str
        Of the manifest, and so of all.
    """

    runs: dict[str, Run]
    code: dict[str, str]
    about: dict[str, str]
    digest: str

    def __str__(self) -> str:
        made = f"{self.about['created'][:10]}, commit {self.about['commit']}"
        return f"archive {self.digest[:8]} of {made}"


def key_of(run: Run, code: str) -> str:
    """Return the name of a run in an archive: what it depends on, but for the machine.

    Parameters
    ----------
    run : Run
        Its recipe, its seed, and the images and the engine that its provenance names count.
    code : str
        The digest of the engine's code.

    Returns
    -------
    str
        32 hexadecimal digits.
    """
    engine = str(run.provenance.engine)
    return portable_key(run.recipe.digest, run.seed, run.provenance.data["digest"], engine, code)


def as_computed(run: Run) -> Run:
    """Return a run without a word of whether it was fetched."""
    made = dataclasses.replace(run.provenance, fetched=None)
    return dataclasses.replace(run, provenance=made)


def portable_key(recipe: str, seed: int, data: str, engine: str, code: str) -> str:
    """Return the same from the digests of recipe, images and code, and the engine's name."""
    parts = [store.FORMAT, recipe, seed, data, engine.rpartition(".")[2], code]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def pack(
    target: Path, runs: Iterable[Run], code: Mapping[str, str], about: Mapping[str, str]
) -> int:
    """Write an archive of runs, in one step; the same runs give the same bytes.

    Parameters
    ----------
    target : Path
        The file.
    runs : iterable of Run
        Each once. That one was fetched is not told: it is passed on as it was computed.
    code, about
        As in `Archive`; ``code`` of each run's engine.

    Returns
    -------
    int
        How many runs there are in it.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    files = {}
    for run in runs:
        key = key_of(run, code[str(run.provenance.engine)])
        files[f"runs/{key}.json"] = store.text_of(as_computed(run))
    files = dict(sorted(files.items()))
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "about": dict(about),
        "code": dict(sorted(code.items())),
        "sha256": {name: _sha256(text.encode()) for name, text in files.items()},
    }

    def fill(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as content:
            for name, text in {MANIFEST: json.dumps(manifest, indent=1), **files}.items():
                entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # not now: the same bytes
                content.writestr(entry, text, zipfile.ZIP_DEFLATED)

    settings.write(target, fill)
    target.chmod(0o644)  # a host serves it as somebody else
    return len(files)


def unpack(path: Path) -> Archive:
    """Read and verify an archive; nothing is written.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    ArchiveError
        If anything in it is not as it should be.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise ArchiveError(
            f"there is no {path}: name the address of a built site, or its {NAME}."
        ) from None
    except OSError as error:
        raise ArchiveError(
            f"{path} cannot be read ({error.strerror}), so nothing of it was stored: "
            f"name the address of a built site, or a {NAME} that you may read."
        ) from error
    try:
        with file:
            if path.stat().st_size > MOST_BYTES:
                raise ValueError(f"it is larger than {MOST_BYTES >> 20} MB")
            return _verified(zipfile.ZipFile(file))
    except _DAMAGED as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise ArchiveError(
            f"{path.name} is damaged or no archive of runs ({reason}), so nothing of it was stored: "
            f"fetch it again, or name the {NAME} of another site."
        ) from error


def _verified(content: zipfile.ZipFile) -> Archive:
    entries = content.infolist()
    names = [entry.filename for entry in entries]
    foreign = [name for name in names if name != MANIFEST and not _RUN.fullmatch(name)]
    if foreign:
        raise ValueError(f"{foreign[0][:80]!r} does not belong into it")
    if len(set(names)) < len(names) or len(names) > MOST_FILES:
        raise ValueError("it has files twice, or too many of them")
    if sum(entry.file_size for entry in entries) > MOST_OF_ALL:
        raise ValueError(f"unpacked it is larger than {MOST_OF_ALL >> 20} MB")
    raw = _read(content, MANIFEST)
    manifest = json.loads(raw)
    if manifest["kind"] != KIND:
        raise ValueError("it is of another kind")
    if manifest["format"] != FORMAT:
        raise ValueError(f"its format is {manifest['format']}, and this version reads {FORMAT}")
    about = {name: manifest["about"][name] for name in ("commit", "created", "profile", "release")}
    _check_texts([*about.values(), *manifest["code"], *manifest["code"].values()])
    sums = manifest["sha256"]
    if {*sums, MANIFEST} != set(names):
        raise ValueError("its manifest lists other files")
    runs = {}
    for name, expected in sums.items():
        text = _read(content, name)
        if _sha256(text) != expected:
            raise ValueError(f"the SHA-256 of {name} does not fit")
        run = store.parse(text.decode("utf-8"))
        check(run)
        key = name[5:-5]
        if key_of(run, manifest["code"][str(run.provenance.engine)]) != key:
            raise ValueError(f"{name} is not the run that its name says")
        runs[key] = run
    if not runs:
        raise ValueError("there are no runs in it")
    return Archive(runs, manifest["code"], about, _sha256(raw))


def _read(content: zipfile.ZipFile, name: str) -> bytes:
    """Return a file of the archive; what it says of its own size is not believed."""
    entry = content.getinfo(name)
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is packed in another way")
    with content.open(entry) as file:
        found = file.read(MOST_OF_ONE + 1)
    if len(found) > MOST_OF_ONE:
        raise ValueError(f"{name} is larger than {MOST_OF_ONE >> 20} MB")
    return found


def check(run: Run) -> None:
    """Check that everything in a run is of the type that it should be.

    Raises
    ------
    ValueError, TypeError or LookupError
        If not; the message says what is wrong.
    """
    if not (_is_whole(run.seed) and run.seed >= 0):
        raise ValueError("a seed is no whole number from 0")
    if not run.history.get("loss"):
        raise ValueError("a run has no losses")
    history: dict[str, Any] = run.history
    for values in history.values():
        if not isinstance(values, list) or not all(map(_is_number, values)):
            raise ValueError("a history holds what is no number")
    made = run.provenance
    datetime.datetime.fromisoformat(made.created)
    if made.fetched is not None:
        raise ValueError("a run claims to have been fetched")
    if not isinstance(made.data["sample"], bool):
        raise TypeError("a run does not say whether its images are the sample's")
    if made.seconds is not None and not (_is_number(made.seconds) and math.isfinite(made.seconds)):
        raise ValueError("a run's seconds are no number")
    images = made.data["digest"], made.data["source"]
    cores = made.cores is None or _is_whole(made.cores)
    if not cores or not made.engine or {*made.data} != {"digest", "source", "sample"}:
        raise ValueError("a provenance is not that of one run")
    told = [made.device, made.created, made.engine, *images]
    optional = [one for one in (made.profile, made.commit) if one is not None]
    _check_texts([*told, *optional, *made.versions, *made.versions.values(), *run.history])


def _check_texts(texts: Iterable[Any]) -> None:
    """Refuse what pages could not print as it is."""
    for text in texts:
        if not isinstance(text, str) or not _TEXT.fullmatch(text):
            raise ValueError(f"{str(text)[:40]!r} is not a text that a page may show")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, float) or (_is_whole(value) and abs(value) < 1 << 63)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
