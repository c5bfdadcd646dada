"""The name under which a run is stored: a digest of all that its numbers depend on.

The code among that is found by following imports, from the engine's module to every module of
this library that it may use. Docstrings, comments and the import statements themselves do not
count, nor does in which of these modules a function or a class stands.
"""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import inspect
import json
import platform
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import bn_tutorial
from bn_tutorial.engines.lockstep import usual_engine
from bn_tutorial.networks import backend
from bn_tutorial.training.store import FORMAT

if TYPE_CHECKING:
    from bn_tutorial.data.dataset import Dataset
    from bn_tutorial.engines.workbench import Engine
    from bn_tutorial.recipe.recipes import Recipe

PACKAGE = bn_tutorial.__name__
_FOLDER = Path(bn_tutorial.__file__).parent


def run_key(recipe: Recipe, data: Dataset, seed: int, engine: Engine | None = None) -> str:
    """Return the name under which a run is stored.

    Parameters
    ----------
    recipe : Recipe
        What is trained.
    data : Dataset
        On which images; their contents count, not where they are from.
    seed : int
        With which seed.
    engine : callable or None
        What trains; None means `bn_tutorial.engines.lockstep.usual_engine`. Its name counts, and
        the code of its module and of all that this imports from this library, directly or not.

    Returns
    -------
    str
        32 hexadecimal digits, which follow from the arguments, the versions of Keras,
        TensorFlow and NumPy, and the kind of device.

    Raises
    ------
    ValueError
        If the engine is not defined in a module.
    """
    return key_by_digest(recipe, data.digest, seed, engine or usual_engine(recipe))


def key_by_digest(recipe: Recipe, data: str, seed: int, engine: Engine) -> str:
    """Return a run's key where only the digest of its images is known."""
    setting = setting_of(engine)
    parts = [
        FORMAT,
        recipe.digest,
        seed,
        data,
        setting["device"],
        setting["versions"],
        engine.__name__,
        sorted({digest for digests in setting["code"].values() for digest in digests}),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def setting_of(engine: Engine) -> dict[str, Any]:
    """Return what a run depends on besides recipe, seed and data."""
    return {
        "device": backend.device(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "versions": backend.versions(),
        "engine": engine_name(engine),
        "code": {name: list(digests(name)) for name in closure(_module_of(engine).__name__)},
    }


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Say in what the settings of a client and of its worker differ."""
    mine, its = (
        {
            "the device": one["device"],
            "the engine": one["engine"],
            "python": one["python"],
            **one["versions"],
        }
        for one in (here, there)
    )
    found = [
        f"{name} is {its.get(name)} there and {value} here"
        for name, value in mine.items()
        if value != its.get(name)
    ]
    return found or [  # each Python digests the same code in its own way
        f"the code of {name} differs"
        for name, digests in here["code"].items()
        if digests != there["code"].get(name)
    ]


def engine_name(engine: Engine) -> str:
    """Return an engine's name, with its module."""
    return f"{_module_of(engine).__name__}.{engine.__name__}"


def _module_of(engine: Engine) -> ModuleType:
    module = inspect.getmodule(engine)
    if module is None or not getattr(module, "__file__", None):
        raise ValueError("an engine must be defined in a module, so that its code can be stored.")
    if not _file(module.__name__):  # a user's
        _files()[module.__name__] = Path(str(module.__file__))
    return module


# The modules


@functools.cache
def closure(module: str) -> tuple[str, ...]:
    """Return a module and those of this library that it imports, directly or not, sorted.

    Parameters
    ----------
    module : str
        The module's name.
    """
    found, new = {module}, [module]
    while new:
        more = set(imports(new.pop())) - found
        found |= more
        new += more
    return tuple(sorted(found))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Return which modules of this library a module imports, anywhere in it.

    What only type checkers import is left out. A module that is named in a text, as a module
    is that starts in a process of its own, counts as imported. Where a name is imported from a
    package, it is the module that the package's stub takes it from.
    """
    found = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _named(alias.name)
        elif isinstance(node, ast.ImportFrom):
            found |= _imported(node, module)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for name in re.findall(rf"\b{PACKAGE}(?:\.\w+)+", node.value):
                found |= _named(name)
    return frozenset(found - {module})


def _imported(node: ast.ImportFrom, module: str) -> set[str]:
    base = node.module or ""
    if node.level:  # relative: one dot is the package that the module is in
        is_package = (_file(module) or Path()).name == "__init__.py"
        parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
        base = ".".join([*parents, *([base] if base else [])])
    found = set()
    for alias in node.names:
        found |= _named(f"{base}.{alias.name}")
    return found


def _named(name: str) -> set[str]:
    """Return the module that a dotted name is in; of a package, all of its modules."""
    if name.split(".")[0] != PACKAGE:
        return set()
    if name in _files():
        return {name}
    inside = {one for one in _files() if one.startswith(f"{name}.")}
    if inside:
        return inside
    package, _, last = name.rpartition(".")
    if package in _files():
        return {package}
    return _named(_stub(package)[last]) if last in _stub(package) else _named(package)


@functools.cache
def _stub(package: str) -> dict[str, str]:
    """Return where a package's stub takes its names from."""
    path = _FOLDER.joinpath(*package.split(".")[1:], "__init__.pyi")
    nodes = ast.parse(path.read_text("utf-8")).body if path.exists() else []
    return {
        alias.asname or alias.name: f"{package}.{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 1
        for alias in node.names
    }


@functools.cache
def _files() -> dict[str, Path]:
    """Return the file of each module; a package's own file only loads names, and is left out."""
    found = {}
    for path in _FOLDER.rglob("*.py"):
        if path.name != "__init__.py":
            parts = path.relative_to(_FOLDER).with_suffix("").parts
            found[".".join([PACKAGE, *parts])] = path
    return found


def is_module(name: str) -> bool:
    """Return whether this library, or an engine's user, has a module of that name."""
    return name in _files()


def _file(module: str) -> Path | None:
    return _files().get(module)


@functools.cache  # as the code was when it was first asked for, whatever becomes of the file
def _tree(module: str) -> ast.Module:
    return _without(_is_for_readers, ast.parse(source(_files()[module])))


def source(path: Path) -> str:
    """Return a module's text."""
    return path.read_text("utf-8")


# What counts of a module


@functools.cache
def code_digest(module: str) -> str:
    """Return a digest of all the code that a module's numbers depend on, alike in every Python.

    Parameters
    ----------
    module : str
        The module's name, usually an engine's.
    """
    found = {one for name in closure(module) for one in digests(name, _plainly)}
    return hashlib.sha256(json.dumps(sorted(found)).encode()).hexdigest()[:32]


@functools.cache
def digests(module: str, dump: Callable[[ast.AST], str] = ast.dump) -> tuple[str, ...]:
    """Return a digest of each function and class of a module, and one of all its other code.

    Of imports it counts what is called by another name here. ``dump`` writes code as text; the
    usual one does so in each version of Python in a way of its own.
    """
    body = _without(_is_import, copy.deepcopy(_tree(module))).body
    whole = [node for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    rest = ast.Module([node for node in body if node not in whole], [])
    renamed = {
        f"{alias.asname} is {alias.name}"
        for node in filter(_is_import, ast.walk(_tree(module)))
        for alias in node.names  # type: ignore[attr-defined]
        if alias.asname not in (None, alias.name)
    }
    written = map(dump, [*whole, rest])
    return tuple(sorted(renamed | {_digest(text) for text in written}))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plainly(node: object) -> str:
    """Write code as text without what only some versions of Python note, or leave out if empty."""
    if isinstance(node, list):
        return f"[{','.join(map(_plainly, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.JoinedStr):  # to which 3.12.1 adds empty texts
        full = [one for one in node.values if getattr(one, "value", None) != ""]
        node = ast.JoinedStr(full)
    fields = [
        f"{name}={_plainly(value)}"
        for name, value in ast.iter_fields(node)
        if value is not None and value != []
    ]
    return f"{type(node).__name__}({','.join(fields)})"


def _without(unwanted: Callable[[ast.AST], bool], tree: ast.Module) -> ast.Module:
    """Take nodes out of a tree."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, field, None), list):
                setattr(node, field, [one for one in statements if not unwanted(one)])
    return tree


def _is_import(node: ast.AST) -> bool:
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _is_for_readers(node: ast.AST) -> bool:
    """Return whether a statement is a text that nobody uses, or read by type checkers alone."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
