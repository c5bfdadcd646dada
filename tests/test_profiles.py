from __future__ import annotations

import dataclasses

import pytest

from bn_tutorial.data.sources import SOURCES
from bn_tutorial.settings import PROFILES, Profile, first_seed, profile


@pytest.mark.parametrize("name", ["smoke", "standard", "full"])
def test_the_variable_names_the_profile(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", name)
    assert profile() is PROFILES[name]
    assert profile().name == name


def test_standard_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BN_TUTORIAL_PROFILE", raising=False)
    assert profile().name == "standard"
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", "")
    assert profile().name == "standard"


@pytest.mark.parametrize("name", ["Smoke", "fast", "standard "])
def test_an_unknown_profile_is_refused_in_one_sentence(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_PROFILE", name)
    with pytest.raises(ValueError, match="there is no profile") as refusal:
        profile()
    assert str(refusal.value) == f"there is no profile {name!r}: choose smoke, standard, full."


@pytest.mark.parametrize("one", PROFILES.values())
def test_each_profile_is_one_that_experiments_can_use(one: Profile) -> None:
    assert one.source in SOURCES
    assert min(one.seeds, one.most_seeds) >= 2  # no figure from one seed
    assert one.epochs >= 1
    images = 1_000 if one.source == "sample" else 50_000
    assert one.subset + one.validation <= images
    assert dataclasses.is_dataclass(one)


def test_the_number_of_seeds_is_a_matter_of_the_experiment() -> None:
    assert PROFILES["standard"].most_seeds == PROFILES["full"].most_seeds > 100
    assert PROFILES["smoke"].source == "sample"


@pytest.mark.parametrize(("named", "first"), [("", 0), ("0", 0), ("100", 100)])
def test_the_variable_names_the_first_seed(
    named: str, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BN_TUTORIAL_SEEDS_FROM", named)
    assert first_seed() == first


@pytest.mark.parametrize("named", ["-1", "1.5", "ten"])
def test_a_first_seed_that_is_none_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BN_TUTORIAL_SEEDS_FROM", named)
    with pytest.raises(ValueError, match="must be a whole number from 0"):
        first_seed()


def test_the_smoke_profile_goes_through_the_ends_only() -> None:
    values = (1, 3, 10, 30)
    assert PROFILES["smoke"].grid(values) == [1, 30]
    assert PROFILES["smoke"].grid([7]) == [7]
    assert PROFILES["smoke"].grid(iter("ab")) == ["a", "b"]
    assert PROFILES["standard"].grid(values) == list(values)
