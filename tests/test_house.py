"""The rooms of the house, and what is said of them."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "bn_tutorial"
CONTRACT = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = [re.findall(r"\w+", layer) for layer in CONTRACT["contracts"][0]["layers"]]
ROOMS = [room for layer in LAYERS for room in layer]  # from the top
GUIDE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
DESIGN = (ROOT / "docs" / "contributing" / "design.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def modules(room: str) -> list[str]:
    """Return the modules of a room, none if it is one."""
    return sorted(path.stem for path in (LIBRARY / room).glob("*.py") if path.stem[0] != "_")


def row(room: str) -> str:
    """Return the row of the map that a room should have, from its own docstring."""
    folder = LIBRARY / room
    source = folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")
    sentence = str(ast.get_docstring(ast.parse(source.read_text("utf-8")))).partition("\n")[0]
    return f"| `{room}` | {sentence} | {', '.join(f'`{name}`' for name in modules(room))} |"


def public(room: str) -> list[str]:
    """Return the names, other than modules, that a room's façade offers."""
    stub = LIBRARY / room / "__init__.pyi"
    body = ast.parse(stub.read_text("utf-8")).body if stub.exists() else []
    return [one.name for node in body if isinstance(node, ast.ImportFrom) and node.module for one in node.names]  # fmt: skip


@pytest.mark.parametrize("folder", ["bn_tutorial", "docs/_ext"])
def test_no_file_is_long(folder: str) -> None:
    long = {
        path.name: count
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text("utf-8").splitlines())) > 350
    }
    assert not long


def test_rooms_import_one_way_and_modules_in_no_circle() -> None:
    code = "from importlinter.cli import lint_imports_command as lint; lint()"
    command = [sys.executable, "-c", code, "--no-cache", "--no-logo", "pyproject.toml"]
    result = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_are_twelve_rooms() -> None:
    found = {path.stem for path in LIBRARY.iterdir() if path.suffix in ("", ".py")}
    assert {name for name in found if name[0] != "_"} == set(ROOMS)
    assert len(ROOMS) == 12


def test_the_guide_s_map_has_every_room_and_module() -> None:
    expected = "\n".join(["| room | is | modules |", "|---|---|---|", *map(row, ROOMS)])
    assert expected in GUIDE, f"the map in CONTRIBUTING.md should be:\n{expected}"


def test_the_guide_s_places_exist() -> None:
    _, _, table = GUIDE.partition("## Where would I change")
    rows = [line.split("|") for line in table.partition("\n## ")[0].splitlines() if "`" in line]
    assert len(rows) == 7
    for _, _, here, *_ in rows:
        names = re.findall(r"`([^`]+)`", here)
        paths = [ROOT / name for name in names if "/" in name]
        assert paths
        assert all(path.exists() for path in paths), here
        text = "".join(path.read_text("utf-8") for path in paths if path.is_file())
        for name in names:
            if "/" not in name and paths[0].suffix == ".py":
                assert name.rpartition(".")[2] in text, name


@pytest.mark.parametrize("text", [GUIDE, DESIGN], ids=["guide", "design"])
def test_what_is_named_by_its_path_exists(text: str) -> None:
    for path in re.findall(r"`((?:bn_tutorial|docs|gallery|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


def test_the_design_has_every_room_and_extension() -> None:
    table = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| \w", DESIGN, re.MULTILINE)
    named = [re.findall(r"\w+", cell) for cell in table]
    assert named[: len(LAYERS)] == LAYERS
    extensions = sorted(path.stem for path in (ROOT / "docs" / "_ext").glob("*.py"))
    assert sorted(name for (name,) in named[len(LAYERS) :]) == extensions


def test_the_reference_has_every_room_and_each_name_that_one_offers() -> None:
    listed_rooms = re.findall(r"^\| \{doc\}`reference/(\w+)`", REFERENCE, flags=re.MULTILINE)
    assert listed_rooms == ROOMS[::-1]
    folder = ROOT / "docs" / "reference"
    shown = {room: (folder / f"{room}.md").read_text("utf-8") for room in listed_rooms}
    for room, text in shown.items():
        listed = re.findall(r"automodule:: bn_tutorial\.([\w.]+)(?:\n   :members:(.*))?", text)
        named = set(re.findall(r"py:data:: [\w.]+\.(\w+)", text))
        for module, members in listed:
            assert module.partition(".")[0] == room
            found = importlib.import_module(f"bn_tutorial.{module}")
            names = re.findall(r"\w+", members) or [name for name in vars(found) if name[0] != "_"]
            assert all(hasattr(found, name) for name in names), module
            named.update(names)
        if room != "cli":  # which says by itself what it offers
            assert set(public(room)) <= named, room
