"""Runs that other machines computed: how they are found, kept, and passed on.

A fetched run counts for a recipe, a seed and images if its engine has the same name and the same
code here. The device and the versions may be others: its provenance tells these, and that it was
fetched.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from bn_tutorial import settings
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import lockstep, single
from bn_tutorial.engines.workbench import Engine
from bn_tutorial.recipe.recipes import Recipe
from bn_tutorial.training import archive, keys
from bn_tutorial.training.archive import Archive, ArchiveError
from bn_tutorial.training.provenance import together
from bn_tutorial.training.runs import Run
from bn_tutorial.training.store import RunStore

Pair = tuple[Recipe, int]


# Found


def known(
    wanted: Mapping[Pair, str],
    data: Dataset,
    store: RunStore,
    engines: Mapping[Recipe, Engine],
    *,
    usual: bool,
) -> dict[Pair, Run]:
    """Return the runs that need not be trained, computed here or fetched.

    Parameters
    ----------
    wanted : mapping
        By recipe and seed, the key of a run that is computed here.
    data : Dataset
        The images.
    store : RunStore
        Where runs are kept.
    engines : mapping of Recipe to callable
        What would train.
    usual : bool
        Whether nobody asked for an engine. Then runs of the other usual engine count, too, if all
        seeds of a recipe were fetched, so that what a GPU has trained need not be trained here.

    Returns
    -------
    dict
        By recipe and seed. Which kind comes first, ``BN_TUTORIAL_FETCHED`` says.

    Raises
    ------
    ValueError
        If it says what is not known.
    """
    order = settings.fetched()
    if order == "never" or not store.fetched.folder.is_dir():
        return _stored(store, wanted)
    there: dict[Pair, Run] = {}
    here = {} if order == "first" else _stored(store, wanted)
    for recipe, engine in engines.items():
        pairs = [pair for pair in wanted if pair[0] == recipe]
        missing = [pair for pair in pairs if pair not in here]
        mine = _fetched(store, missing, data, engine)
        if usual and len(mine) < len(pairs) == len(missing) and lockstep.supports(recipe):
            other = single.fit if engine is lockstep.fit else lockstep.fit
            others = _fetched(store, pairs, data, other)
            mine = others if len(others) == len(pairs) else mine
        there |= mine
    found = here | there
    if order == "first":
        found |= _stored(store, {pair: key for pair, key in wanted.items() if pair not in found})
    return found


def _stored(store: RunStore, wanted: Mapping[Pair, str]) -> dict[Pair, Run]:
    return {pair: run for pair, key in wanted.items() if (run := store.get(key))}


def _fetched(store: RunStore, pairs: list[Pair], data: Dataset, engine: Engine) -> dict[Pair, Run]:
    name = keys.engine_name(engine)
    code = keys.code_digest(name.rpartition(".")[0])
    named = {
        pair: archive.portable_key(pair[0].digest, pair[1], data.digest, name, code)
        for pair in pairs
    }
    return _stored(store.fetched, named)


# Kept


@dataclasses.dataclass(frozen=True)
class Fetched:
    """What was stored of an archive.

    Parameters
    ----------
    archive : Archive
        All that is in it.
    stored : int
        Runs that count here.
    strange : int
        Runs of code that this version does not have.
    """

    archive: Archive
    stored: int
    strange: int

    @property
    def machines(self) -> str:
        """What computed the archive's runs, in words."""
        made = together(run.provenance for run in self.archive.runs.values())
        return f"{made.machine}; {made.software}"


def keep(found: Archive, store: RunStore) -> Fetched:
    """Store the runs of an archive whose code is the code here.

    Parameters
    ----------
    found : Archive
        All of it verified.
    store : RunStore
        Where; they lie in its `bn_tutorial.training.store.RunStore.fetched`.

    Returns
    -------
    Fetched
        What was stored.

    Raises
    ------
    ArchiveError
        If it has no run of this code. Nothing was stored then.
    StorageError
        If the storage folder cannot be written.
    """
    same = {engine for engine, code in found.code.items() if code == _code_here(engine)}
    mine = {key: run for key, run in found.runs.items() if run.provenance.engine in same}
    if not mine:
        raise ArchiveError(
            f"the runs of this archive were computed by other code (commit {found.about['commit']}) "
            "than this version's, so none of them was stored: fetch from a site that this version "
            "built, or check that commit out."
        )
    for key, run in mine.items():
        made = dataclasses.replace(run.provenance, fetched=str(found))
        store.fetched.put(key, dataclasses.replace(run, provenance=made))
    return Fetched(found, len(mine), len(found.runs) - len(mine))


def _code_here(engine: str) -> str | None:
    """Return the digest of an engine's code; None if the library has no such module."""
    module = engine.rpartition(".")[0]
    own = module.startswith(f"{keys.PACKAGE}.") and keys.is_module(module)
    return keys.code_digest(module) if own else None


# Passed on


def export(target: Path, store: RunStore, about: Mapping[str, str]) -> int:
    """Write an archive of all runs that `known` would find here, own ones and fetched ones.

    Runs of other code or versions are left out, and so are those of engines that do not belong to
    the library.

    Parameters
    ----------
    target : Path
        The file.
    store : RunStore
        Where the runs are.
    about : mapping of str to str
        As in `bn_tutorial.training.archive.Archive`.

    Returns
    -------
    int
        How many runs there are in it.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    order = settings.fetched()
    own = dict(_current(store))
    others = {} if order == "never" else dict(_others(store.fetched))
    runs = own | others if order == "first" else others | own
    code = {str(run.provenance.engine): "" for run in runs.values()}
    code = {engine: str(_code_here(engine)) for engine in code}
    return archive.pack(target, runs.values(), code, about)


def _current(store: RunStore) -> Iterator[tuple[str, Run]]:
    """Yield the runs that were computed here and would be found again, by their portable keys."""
    for key, run in store.items():
        if not (code := _passable(run)):
            continue
        module, _, name = str(run.provenance.engine).rpartition(".")
        engine = getattr(importlib.import_module(module), name, None)
        images = run.provenance.data["digest"]
        if engine and keys.key_by_digest(run.recipe, images, run.seed, engine) == key:
            yield archive.key_of(run, code), run


def _others(store: RunStore) -> Iterator[tuple[str, Run]]:
    """Yield the fetched runs that would be found."""
    for key, run in store.items():
        if (code := _passable(run)) and archive.key_of(run, code) == key:
            yield key, run


def _passable(run: Run) -> str | None:
    """Return the digest of a run's code if an archive may hold it."""
    try:
        archive.check(archive.as_computed(run))
    except (ValueError, TypeError, LookupError):
        return None
    return _code_here(str(run.provenance.engine))
