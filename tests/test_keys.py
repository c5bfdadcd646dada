"""What a run's key depends on, and what it does not."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bn_tutorial.engines
from bn_tutorial.data.dataset import Dataset
from bn_tutorial.engines import observe, replicas, single, timing
from bn_tutorial.engines.workbench import Engine
from bn_tutorial.networks import backend
from bn_tutorial.recipe import Recipe
from bn_tutorial.training import keys
from bn_tutorial.training.keys import closure, digests, run_key
from bn_tutorial.training.schedule import cores_of
from bn_tutorial.training.sweep import train
from tests import engines

A = Recipe(epochs=2, batch_size=10)
B = A.but(norm="batch")


def all_engines() -> dict[str, Engine]:
    """Return every engine of the library: the public functions that are given a bench."""
    found: dict[str, Any] = {}
    for info in pkgutil.iter_modules(bn_tutorial.engines.__path__):
        module = importlib.import_module(f"bn_tutorial.engines.{info.name}")
        for name, function in inspect.getmembers(module, inspect.isfunction):
            arguments = list(inspect.signature(function).parameters)
            mine = function.__module__ == module.__name__ and not name.startswith("_")
            if mine and arguments[:3] == ["bench", "recipe", "seed"]:
                found[f"{info.name}.{name}"] = function
    return found


ENGINES = all_engines()


def forget() -> None:
    """Forget what was read of the code."""
    for cached in (keys.closure, keys.imports, keys._stub, keys._files, keys._tree, digests):
        cached.cache_clear()


@pytest.fixture
def afresh() -> Iterator[None]:
    """Read the code afresh, before and after a test."""
    forget()
    yield
    forget()


def module(name: str) -> str:
    return f"bn_tutorial.{name}"


def test_all_engines_are_found() -> None:
    assert {"single.fit", "lockstep.fit", "notebook.fit", "timing.steps"} <= set(ENGINES)
    assert {"observe.landscape", "replicas.compare"} <= set(ENGINES)


def test_a_key_depends_on_recipe_seed_data_engine_versions_and_device(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tiny.y_train.copy()
    labels[0] += 1
    other = Dataset(tiny.x_train, labels, tiny.x_test, tiny.y_test)
    found = [
        run_key(A, tiny, 0),
        run_key(B, tiny, 0),
        run_key(A.but(epochs=3), tiny, 0),
        run_key(A, tiny, 1),
        run_key(A, other, 0),
        run_key(A, tiny, 0, engines.counted),
        run_key(A, tiny, 0, engines.logged),
    ]
    same = Dataset(tiny.x_train, tiny.y_train, tiny.x_test, tiny.y_test, source="elsewhere")
    assert run_key(A.but(), same, 0) == run_key(A, tiny, 0, single.fit) == found[0]
    versions = backend.versions()
    with monkeypatch.context() as patched:
        patched.setattr(backend, "versions", lambda: {**versions, "keras": "2.0"})
        found.append(run_key(A, tiny, 0))
    with monkeypatch.context() as patched:
        patched.setattr(backend, "device", lambda: "an abacus")
        found.append(run_key(A, tiny, 0))
    with monkeypatch.context() as patched:
        patched.setattr(keys, "FORMAT", 99)
        found.append(run_key(A, tiny, 0))
    assert len(set(found)) == len(found)
    assert run_key(A, tiny, 0) == found[0]


# The modules that an engine uses


@pytest.mark.parametrize("name", ENGINES)
def test_a_key_covers_the_code_of_all_that_its_engine_uses_and_nothing_else(
    name: str, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ENGINES[name]
    used = closure(engine.__module__)
    everything = set(keys._files())
    assert engine.__module__ in used
    assert set(used) < everything
    before = run_key(A, tiny, 0, engine)
    touched = ""
    monkeypatch.setattr(
        keys, "digests", lambda one: ("changed",) if one == touched else digests(one)
    )
    for touched in everything:
        assert (run_key(A, tiny, 0, engine) != before) == (touched in used), touched


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """Return what Python loads with each module of an engine, each in a process of its own."""
    code = (
        "import sys; from tests.engines import stand_in_for_backend; "
        "before = set(sys.modules); stand_in_for_backend(); "
        "import {0}; print(*sorted(set(sys.modules) - before))"
    )
    asked = {
        name: subprocess.Popen(
            [sys.executable, "-c", code.format(name)], stdout=subprocess.PIPE, text=True
        )
        for name in {engine.__module__ for engine in ENGINES.values()}
    }
    return {name: set(process.communicate()[0].split()) for name, process in asked.items()}


@pytest.mark.parametrize("name", ENGINES)
def test_all_that_is_loaded_with_an_engine_is_in_its_closure(
    name: str, loaded: dict[str, set[str]]
) -> None:
    engine = ENGINES[name]
    found = loaded[engine.__module__] & set(keys._files())
    assert engine.__module__ in found
    assert found <= set(closure(engine.__module__))


def test_timing_covers_folding() -> None:
    assert module("networks.folding") in closure(timing.__name__)
    assert module("networks.folding") not in closure(single.__name__)


def test_what_looks_at_training_does_not_count_for_training_alone() -> None:
    used = closure(single.__name__)
    for name in ("backend", "layers", "models", "statistics"):
        assert module(f"networks.{name}") in used
    for name in ("data.dataset", "recipe.recipes", "recipe.tables", "engines.program"):
        assert module(name) in used
    for name in ("engines.probes", "training.sweep", "settings", "figures.panel"):
        assert module(name) not in used
    assert module("engines.probes") in closure(observe.__name__)


def test_engines_say_how_many_cores_they_take() -> None:
    cores = {name: cores_of(engine) for name, engine in ENGINES.items()}
    assert cores["single.fit"] == 1
    assert cores["replicas.compare"] == cores_of(replicas.synchronised) == 2
    assert cores["timing.steps"] == cores["timing.steps_without_xla"] == math.inf


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import bn_tutorial.settings", {"settings"}),
        ("from bn_tutorial import settings as one", {"settings"}),
        ("from bn_tutorial.settings import home", {"settings"}),
        ("from bn_tutorial import Recipe, build", {"recipe.recipes", "networks.models"}),
        ("from bn_tutorial.recipe import OPTIMISERS", {"recipe.tables"}),
        ("from bn_tutorial import recipe", {"recipe.recipes", "recipe.tables"}),
        ("from bn_tutorial.networks import fold", {"networks.folding"}),
        ("from ..settings import home", {"settings"}),
        ("from . import rows", {"engines.rows"}),
        ("from .rows import collect", {"engines.rows"}),
        ("def f():\n    from bn_tutorial import settings", {"settings"}),
        ("CODE = 'import bn_tutorial.settings'", {"settings"}),
        ("MAKE = 'bn_tutorial.networks.layers:Ghost'", {"networks.layers"}),
        ('"""As `bn_tutorial.settings`."""', set()),
        ("# bn_tutorial.settings", set()),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import bn_tutorial.settings",
            set(),
        ),
        ("import numpy, bn_tutorials", set()),
    ],
)
def test_imports_are_found(
    text: str, expected: set[str], afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_texts(monkeypatch, {"engines.single": text})
    assert keys.imports(single.__name__) == {module(name) for name in expected}


def test_a_whole_package_is_all_of_its_modules(
    afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_texts(monkeypatch, {"engines.single": "import bn_tutorial.networks"})
    found = keys.imports(single.__name__)
    assert {module("networks.layers"), module("networks.folding")} <= found
    assert all(name.startswith(module("networks.")) for name in found)


def with_texts(monkeypatch: pytest.MonkeyPatch, texts: dict[str, str]) -> None:
    """Let modules have other texts than their files."""
    files = {keys._files()[module(name)]: text for name, text in texts.items()}
    monkeypatch.setattr(
        keys, "source", lambda path: files[path] if path in files else path.read_text("utf-8")
    )
    forget()


# The engines of others


ENGINE = """
from bn_tutorial.engines import single

def engine(bench, recipe, seed):
    yield from single.fit(bench, recipe, seed)
"""


@pytest.fixture
def written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, afresh: None
) -> Callable[[str], Engine]:
    """Return a function that returns the engine of a module with some text."""
    monkeypatch.syspath_prepend(tmp_path)
    names = (f"of_a_user_{number}" for number in range(9))

    def write(text: str) -> Engine:
        name = next(names)
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        found: Engine = importlib.import_module(name).engine
        return found

    return write


def test_a_users_engine_counts_with_what_it_uses_of_the_library(
    written: Callable[[str], Engine], tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = functools.partial(run_key, A, tiny, 0)
    engine = written(ENGINE)
    first = key(engine)
    assert set(closure(single.__name__)) < set(closure(engine.__module__))
    assert key(written(ENGINE + "\n# a comment")) == first
    assert key(written(ENGINE.replace("yield from", "return"))) != first
    assert key(written(ENGINE + "\nfrom bn_tutorial.networks import folding\n")) != first
    with_texts(monkeypatch, {"networks.layers": "EDITED = True"})
    assert key(written(ENGINE)) != first


def test_an_engine_without_code_to_store_is_refused(tiny: Dataset) -> None:
    namespace: dict[str, Any] = {"__name__": "nowhere"}
    exec("def engine(bench, recipe, seed): raise AssertionError", namespace)  # noqa: S102
    with pytest.raises(ValueError, match="an engine must be defined in a module"):
        train(A, tiny, engine=namespace["engine"])


# What counts of the code


CODE = '''
FIRST = 1
SECOND = 2

def double(x):
    y = 2 * x  
    return {"a": y, "b": "text"}

class Thing:
    size = 3
    def grow(self): self.size += 1
'''  # fmt: skip
SAME = '''
"""A docstring of the module,
over two lines."""
import json  # is used by nobody
# a comment
FIRST = 1
"""What a constant means."""
SECOND = 2
class Thing:
    """A thing."""
    size = 3

    def grow(self):
        """Grow."""
        import os
        self.size += 1
def double(
    x,  # another
):
    """Double it."""
    y = (2 * x)

    return {
        'a': y, 'b': "text",
    }
'''


def digest(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Return the digest of a module with this text."""
    with_texts(monkeypatch, {"recipe.tables": text})
    return digests(module("recipe.tables"))


def test_the_digest_of_code_passes_over_what_changes_nothing(
    afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert digest(SAME, monkeypatch) == digest(CODE, monkeypatch)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 * x", "3 * x"),
        ("2 * x", "x * 2"),
        ("2 * x", "2.0 * x"),
        ('"text"', '"Text"'),
        ("size = 3", "size: int = 3"),
        ("double", "doubled"),
        ("self.size += 1", "return"),
        ("return {", "x, {"),
        ("FIRST = 1\nSECOND = 2", "SECOND = 2\nFIRST = 1"),
        ("def double", "@staticmethod\ndef double"),
        ("def double", "from json import loads as dumps\ndef double"),
    ],
)
def test_the_digest_of_code_notices_what_may_change_something(
    old: str, new: str, afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert old in CODE
    before = digest(CODE, monkeypatch)
    assert digest(CODE.replace(old, new), monkeypatch) != before


def test_moving_a_function_within_what_an_engine_uses_changes_no_key(
    tiny: Dataset, afresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = "\ndef moved(x):\n    return 2 * x\n"
    batches, rows = (
        keys._files()[module(f"engines.{name}")].read_text("utf-8") for name in ("batches", "rows")
    )
    found = []
    for texts in ((batches + function, rows), (batches, rows + function), (batches, rows)):
        with_texts(monkeypatch, dict(zip(("engines.batches", "engines.rows"), texts, strict=True)))
        found.append(run_key(A, tiny, 0))
    assert found[0] == found[1] != found[2]
