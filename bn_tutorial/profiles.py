"""Profiles: the same experiments on three budgets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Profile:
    """How much data, and how many seeds and epochs, an experiment may use.

    Parameters
    ----------
    name : str
        ``smoke``, ``standard`` or ``full``.
    source : str
        Where the data comes from; see `load_cifar10`.
    seeds : int
        Seeds per recipe where runs are many or long: the assignment's, and maps.
    epochs : int
        Epochs of the assignment's runs.
    subset_seeds : int
        Seeds per recipe elsewhere.
    subset, validation : int
        Training images, and images held out of the training set, beyond the assignment. The
        usual batch sizes divide the first, and the second divides the test images: a smaller
        last part would be compiled a second time.
    """

    name: str
    source: str
    seeds: int
    epochs: int
    subset_seeds: int
    subset: int
    validation: int

    def grid(self, values: Iterable[T]) -> list[T]:
        """Return the values that an experiment should go through: in ``smoke`` only the ends."""
        values = list(values)
        return values[:: max(len(values) - 1, 1)] if self.name == "smoke" else values


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", "sample", 2, 3, subset_seeds=2, subset=512, validation=250),
        Profile("standard", "auto", 3, 10, subset_seeds=5, subset=5_120, validation=2_500),
        Profile("full", "auto", 10, 10, subset_seeds=10, subset=44_800, validation=5_000),
    )
}


def profile() -> Profile:
    """Return the profile that ``BN_TUTORIAL_PROFILE`` names; ``standard`` if it names none.

    Raises
    ------
    ValueError
        If there is no profile of that name.
    """
    name = os.environ.get("BN_TUTORIAL_PROFILE") or "standard"
    if name not in PROFILES:
        raise ValueError(f"there is no profile {name!r}: choose {', '.join(PROFILES)}.")
    return PROFILES[name]
