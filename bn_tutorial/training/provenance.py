"""What something was computed with: one record for runs, evidence, pages and benchmarks."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bn_tutorial.data.dataset import Dataset


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """What one result, or several (`together`), were computed with.

    Of several results, whatever differs is a list, in the order in which it was met.

    Parameters
    ----------
    data : dict, or list of dict
        The images: their ``digest``, their ``source`` in words, and whether they are of the
        bundled ``sample``.
    device : str, or list of str
        ``"cpu"`` or the GPU's name.
    versions : dict of str to str, or to list of str
        Of ``python``, ``keras``, ``tensorflow`` and ``numpy``, and perhaps others.
    created : str
        When it was finished (UTC, ISO 8601); of several, when the last one was.
    engine : str, or list of str, or None
        The function that trained, with its module.
    seconds : float or None
        How long it took; of several, their sum.
    profile : str, or list of str, or None
        The profile, where one decided.
    commit : str, or list of str, or None
        The commit of the project, where one was built.
    cores : int, or list of int, or None
        The processor's cores, where they matter: a run takes one, however many there are.
    fetched : str, or list of str, or None
        The archive that it was fetched from, in words; None if it was computed here.
    """

    data: Any
    device: str | list[str]
    versions: dict[str, Any]
    created: str
    engine: str | list[str] | None = None
    seconds: float | None = None
    profile: str | list[str] | None = None
    commit: str | list[str] | None = None
    cores: int | list[int] | None = None
    fetched: str | list[str] | None = None

    @classmethod
    def here(
        cls, data: Dataset, *, versions: Mapping[str, str] | None = None, **more: Any
    ) -> Provenance:
        """Return what is being computed with now, in this process.

        Parameters
        ----------
        data : Dataset
            The images.
        versions : mapping of str to str, optional
            Of further packages that matter.
        **more
            ``engine``, ``seconds``, ``profile``, ``commit`` and ``cores``, where they apply.
        """
        from bn_tutorial.networks import backend  # starts TensorFlow, which readers do not need

        return cls(
            data={"digest": data.digest, "source": data.source, "sample": data.is_sample},
            device=backend.device(),
            versions={
                "python": platform.python_version(),
                **backend.versions(),
                **(versions or {}),
            },
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **more,
        )

    def asdict(self) -> dict[str, Any]:
        """Return what is known, ready for JSON; ``Provenance(**found)`` is the way back."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None}

    @property
    def is_sample(self) -> bool:
        """Whether any of the images are the bundled sample's."""
        return any(one["sample"] for one in _listed(self.data))

    @property
    def source(self) -> str:
        """Where the images are from, in words, with the digest."""
        return "; ".join(f"{one['source']}, digest {one['digest']}" for one in _listed(self.data))

    @property
    def archives(self) -> str:
        """The archives that something was fetched from, in words; empty if nothing was."""
        return " and ".join(_listed(self.fetched))

    @property
    def software(self) -> str:
        """The versions, in words: ``python 3.11.7, keras 3.15.1``."""
        return ", ".join(
            f"{name} {' and '.join(_listed(number))}" for name, number in self.versions.items()
        )

    @property
    def machine(self) -> str:
        """The device, and how many cores it has where that matters, in words."""
        device = " and ".join(_listed(self.device))
        return (
            f"{device}, {' and '.join(map(str, _listed(self.cores)))} cores"
            if self.cores
            else device
        )

    def __str__(self) -> str:
        return f"{self.source}; {self.machine}; {self.software}"


def together(provenances: Iterable[Provenance]) -> Provenance:
    """Return one provenance for several: what they share, lists where they differ.

    Parameters
    ----------
    provenances : iterable of Provenance
        At least one. Seconds are summed, so each result should be here once.

    Returns
    -------
    Provenance
        ``created`` is the latest.

    Raises
    ------
    ValueError
        If there is none.
    """
    found = list(provenances)
    if not found:
        raise ValueError("there is no provenance to put together: give at least one.")
    seconds = [one.seconds for one in found if one.seconds is not None]
    names = dict.fromkeys(name for one in found for name in one.versions)
    return Provenance(
        data=_shared(one.data for one in found),
        device=_shared(one.device for one in found),
        versions={name: _shared(one.versions.get(name) for one in found) for name in names},
        created=max(one.created for one in found),
        engine=_shared(one.engine for one in found),
        seconds=round(sum(seconds), 2) if seconds else None,
        profile=_shared(one.profile for one in found),
        commit=_shared(one.commit for one in found),
        cores=_shared(one.cores for one in found),
        fetched=_shared(one.fetched for one in found),
    )


def _shared(values: Iterable[Any]) -> Any:
    """Return the value that all share, or a list of those there are; None where none is known."""
    each: list[Any] = []
    for value in values:
        each += [one for one in _listed(value) if one not in each]
    return each[0] if len(each) == 1 else each or None


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def commit_of(folder: Path) -> str:
    """Return the commit of the checkout that a folder is in, ``-dirty`` if something was changed."""
    git = shutil.which("git")
    if not git:
        return "unknown commit"
    answer = subprocess.run(
        [git, "describe", "--always", "--dirty", "--exclude=*"],  # a commit, whatever it is called
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return answer.stdout.strip() or "unknown commit"
