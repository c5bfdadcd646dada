from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import platformdirs
import pytest
from filelock import FileLock, Timeout

from bn_tutorial import settings
from bn_tutorial.settings import StorageError


def guard_of(path: Path) -> FileLock:
    """Return a lock on the file that `settings.lock` uses, for attempts that do not wait."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def test_home_is_where_the_variable_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.home() == home
    monkeypatch.setenv("BN_TUTORIAL_HOME", "~/somewhere")
    assert settings.home() == Path.home() / "somewhere"


@pytest.mark.parametrize("unset", [True, False])
def test_home_is_otherwise_the_cache_folder(unset: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_HOME", "")
    if unset:
        monkeypatch.delenv("BN_TUTORIAL_HOME")
    assert settings.home() == platformdirs.user_cache_path("bn_tutorial", appauthor=False)


def test_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (b"first, and longer", b"second"):
        settings.write(path, lambda file, content=content: file.write(content))  # type: ignore[misc]
        assert path.read_bytes() == content
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (ValueError("cannot be serialised"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_write_that_fails_leaves_the_old_file(
    failure: BaseException, seen: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fill(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise failure

    with pytest.raises(seen):
        settings.write(path, fill)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_that_shows_at_the_end_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left on device") as error:
        settings.write(path, lambda file: file.write(b"new"))
    assert f"cannot write {path} " in str(error.value)
    assert "free some space or name a writable folder in BN_TUTORIAL_HOME" in str(error.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a regular file")
    below = tmp_path / "file" / "folder" / "file"
    with pytest.raises(StorageError, match="BN_TUTORIAL_HOME"):
        settings.write(below, lambda file: file.write(b""))
    with pytest.raises(StorageError, match="BN_TUTORIAL_HOME"):
        settings.lock(below)
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StorageError):  # a folder stands where the file should be
        settings.write(tmp_path / "folder", lambda file: file.write(b""))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_a_lock_excludes_a_second_one_until_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "file"
    with settings.lock(path), pytest.raises(Timeout):
        guard_of(path).acquire(timeout=0)
    with guard_of(path).acquire(timeout=0) as guard:
        assert guard.lock_file
    with settings.lock(tmp_path / "runs" / "other"), guard_of(path).acquire(timeout=0):
        pass  # another file's lock is another lock


def test_a_lock_excludes_other_processes_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    program = (
        "import sys; from pathlib import Path; from bn_tutorial import settings\n"
        "with settings.lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            guard_of(path).acquire(timeout=0)
        holder.kill()
        holder.wait()
        with settings.lock(path):
            assert path.with_name(".file.lock").exists()


def test_set_aside_renames_and_warns(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.warns(UserWarning, match="is cut off") as warned:
        settings.set_aside(path, "is cut off")
    assert [str(one.message) for one in warned] == [
        f"run.json in {tmp_path} is cut off; it was set aside as run.json.unusable."
    ]
    assert not path.exists()
    assert (tmp_path / "run.json.unusable").read_text() == "{"
    settings.set_aside(path, "is gone")  # as if another process had been faster: no warning


def test_set_aside_says_when_it_cannot(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    (tmp_path / "run.json.unusable" / "full").mkdir(parents=True)
    with pytest.raises(StorageError):
        settings.set_aside(tmp_path / "run.json", "is cut off")
    assert (tmp_path / "run.json").read_text() == "{"


def test_remove_deletes_a_folder_if_there_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    settings.write(folder / "a" / "file", lambda file: file.write(b"1"))
    (tmp_path / "kept").touch()
    settings.remove(folder)
    settings.remove(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    with pytest.raises(StorageError):
        settings.remove(tmp_path / "kept")  # is not a folder
    assert (tmp_path / "kept").exists()
