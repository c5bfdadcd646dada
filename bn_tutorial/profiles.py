"""Profiles: the same experiments on three budgets."""

from __future__ import annotations

import dataclasses
import os


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
        Seeds per recipe.
    epochs : int
        Epochs per run.
    """

    name: str
    source: str
    seeds: int
    epochs: int


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", source="sample", seeds=2, epochs=3),
        Profile("standard", source="auto", seeds=3, epochs=10),
        Profile("full", source="auto", seeds=10, epochs=10),
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
