"""The page's cases: what heals each patient is its cure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from bn_tutorial import figures

PAGE = Path(__file__).parents[1] / "docs" / "practice" / "clinic.md"
CELL = re.compile(
    r"^```\{code-cell\}.*?\n(---\n.*?^---\n|(?::.*?\n)*)(.*?)^```$", re.DOTALL | re.MULTILINE
)
Cell = tuple[str, bool]  # its code, and whether it is the cure


def cells(section: str) -> list[Cell]:
    return [(code, "[cure]" in options) for options, code in CELL.findall(section)]


OPENING, *SECTIONS = re.split(r"^## (?=\d+\. )", PAGE.read_text("utf-8"), flags=re.MULTILINE)
CASES = {section.partition("\n")[0]: cells(section) for section in SECTIONS}
case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def execute(chosen: list[Cell], namespace: dict[str, Any]) -> None:
    for code, _ in chosen:
        exec(compile(code, PAGE.name, "exec"), namespace)  # noqa: S102


@pytest.fixture(scope="module")
def opening() -> Iterator[dict[str, Any]]:
    """Execute the cells that all cases share; they draw without a notebook here."""
    mpl.use("agg")
    namespace: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "inline", lambda: None)
        execute(cells(OPENING), namespace)
    yield namespace
    plt.close("all")


@case
def test_without_its_cure_a_case_stays_ill(case: list[Cell], opening: dict[str, Any]) -> None:
    assert [cures for _, cures in case].count(True) == 1  # with it, every build runs the case
    with pytest.raises(AssertionError, match=r"^$"):
        execute([cell for cell in case if not cell[1]], dict(opening))
