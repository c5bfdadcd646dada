"""An archive of runs from wherever it lies: an address, a file, a folder with a built site."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from bn_tutorial.training import archive
from bn_tutorial.training.archive import Archive, ArchiveError

SECONDS = 30  # without an answer from the network


def opened(address: str) -> Archive:
    """Return an archive, verified; nothing is stored.

    Parameters
    ----------
    address : str
        Of a built site or of its ``runs.zip``, by http or https; or a file, or a site's folder.

    Raises
    ------
    ArchiveError
        If it cannot be had, or anything in it is not as it should be.
    """
    if not address.lower().startswith(("http://", "https://")):
        path = Path(address)
        return archive.unpack(path / archive.NAME if path.is_dir() else path)
    with tempfile.TemporaryDirectory(prefix="bn_tutorial-") as folder:
        return archive.unpack(_downloaded(address, Path(folder)))


def _downloaded(address: str, folder: Path) -> Path:
    import pooch

    pooch.get_logger().setLevel("WARNING")
    download = pooch.HTTPDownloader(_Limit(), chunk_size=1 << 16, timeout=SECONDS)
    try:
        parts = urlsplit(address)
        path = parts.path
        if not path.endswith(".zip"):
            path = f"{path.removesuffix('index.html').rstrip('/')}/{archive.NAME}"
        address = urlunsplit(parts._replace(path=path, fragment=""))
        return Path(pooch.retrieve(address, None, archive.NAME, folder, downloader=download))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ArchiveError(
            f"{address} cannot be fetched ({reason}), so nothing was stored: check the address and "
            "the network."
        ) from error


class _Limit:
    """Stands where pooch has a progress bar, and ends a download that grows too large."""

    def __init__(self) -> None:
        self.total = 0  # which pooch sets
        self._size = 0

    def update(self, size: int) -> None:
        self._size += size
        if max(self.total, self._size) > archive.MOST_BYTES:
            raise ValueError(f"it is larger than {archive.MOST_BYTES >> 20} MB")

    def reset(self) -> None:  # after the last chunk, before all of it is told once more
        self._size = 0

    def close(self) -> None:
        pass
