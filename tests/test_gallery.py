"""The gallery's scripts are experiments with few lines of plotting and bookkeeping."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path

import pytest

from bn_tutorial.evidence.registry import hypotheses

from .shapes import SCRIPTS, shape

SHAPES = {path.stem: shape(path) for path in SCRIPTS}


def test_every_script_is_counted() -> None:
    assert len(SCRIPTS) >= 16


@pytest.mark.parametrize("name", SHAPES)
def test_a_script_has_little_but_its_experiment(name: str) -> None:
    found = SHAPES[name]
    assert found.all <= 250
    assert found.plotting <= 30
    assert found.bookkeeping <= 8


def test_all_scripts_together_are_experiments_and_prose() -> None:
    found = list(SHAPES.values())
    assert sum(one.experiment for one in found) >= 0.6 * sum(one.code for one in found)
    assert sum(one.prose for one in found) >= 0.35 * sum(one.all for one in found)
    median = statistics.median(one.plotting for one in found)
    assert median <= 12


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_an_experiment_from_its_question_to_its_record(script: Path) -> None:
    text = script.read_text("utf-8")
    name = re.sub(r"plot_\d\d_", "", script.stem).replace("_", "-")
    assert f'trial = Experiment("{name}")' in text
    title = text.splitlines()[1]
    assert title.endswith("?")
    order = [
        "trial.train(",
        "trial.judge(",
        "What this does *not* show",
        "**Go further.**",
        "trial.record(",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_judges_what_is_registered(script: Path) -> None:
    text = script.read_text("utf-8")
    name = re.sub(r"plot_\d\d_", "", script.stem).replace("_", "-")
    for one in hypotheses().values():
        if one.experiment == name:
            assert f'"{one.id}"' in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_scars_of_the_formatter_and_no_wall_of_alternative_text(script: Path) -> None:
    text = script.read_text("utf-8")
    assert "fmt:" not in text
    assert not re.search(r"^[ ]*[)\]}]+[ ]+#", text, re.MULTILINE)  # a comment behind a broken line
    assert "sphinx_gallery_thumbnail_number = 1\n" not in text
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.keyword) and node.arg == "alt":
            alt = lines[node.value.lineno - 1 : node.value.end_lineno]
            assert len(alt) <= 4
            assert max(map(len, alt)) <= 84  # as wide as a page shows it


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_no_line_of_code_is_wider_than_its_page(script: Path) -> None:
    text = script.read_text("utf-8")
    title = ast.parse(text).body[0].end_lineno
    code = [line for line in text.splitlines()[title:] if not line.startswith("#")]
    assert [line for line in code if len(line) > 84] == []


def test_a_registered_text_speaks_of_the_images_that_its_script_trains_on() -> None:
    folder = Path(__file__).parents[1]
    text = (folder / "bn_tutorial/evidence/hypotheses/regularisation.toml").read_text("utf-8")
    script = (folder / "gallery/advantages/plot_12_regularisation.py").read_text("utf-8")
    (few,) = re.findall(r"few, many = min\(([\d_]+),", script)
    assert f"images are\n# {int(few):,} in the profiles standard and full" in text
