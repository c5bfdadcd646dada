"""The exercises of the site: each has a hint, an answer, and a check that asserts."""

import builtins
import re
import symtable
from pathlib import Path

import pytest

from bn_tutorial.figures import answers

PAGE = Path(__file__).parents[1] / "docs" / "learn" / "exercises.md"
TEXT = PAGE.read_text("utf-8")
CELL = re.compile(r"(?ms)^```\{code-cell\} ipython3\n:tags: \[hide-cell\]\n(.*?)^```$")
EXERCISES = dict(re.findall(r"(?ms)^### (\d+\. .+?)\n(.*?)(?=^###? |\Z)", TEXT))
every_exercise = pytest.mark.parametrize("title", EXERCISES)


def test_the_exercises_are_numbered_and_at_least_twelve() -> None:
    numbers = [int(title.partition(".")[0]) for title in EXERCISES]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 12
    assert TEXT.count("{code-cell}") == len(numbers)


@every_exercise
def test_task_hint_answer_and_check_come_in_this_order(title: str) -> None:
    text = EXERCISES[title]
    marks = [":::{dropdown} Hint\n", ":::{dropdown} Answer\n", "```{code-cell}"]
    assert [text.count(mark) for mark in marks] == [1, 1, 1]
    task, hint, answer, _ = re.split("|".join(map(re.escape, marks)), text)
    assert all(len(part.split()) > 10 for part in (task, hint, answer))


@every_exercise
def test_the_check_asserts_and_needs_nothing_of_other_cells(title: str) -> None:
    (code,) = CELL.findall(EXERCISES[title])  # which every build executes, one after the other
    assert re.search(r"(?m)^ *assert ", code)
    module = symtable.symtable(code, PAGE.name, "exec")
    made = {
        one.get_name() for one in module.get_symbols() if one.is_assigned() or one.is_imported()
    }
    assert used(module) <= made | set(dir(builtins))


@pytest.mark.parametrize("page", [path.stem for path in sorted(PAGE.parent.glob("*.md"))])
def test_an_exercise_with_an_answer_answers_back(page: str) -> None:
    text = PAGE.with_stem(page).read_text("utf-8")
    parts = text.split(":::{dropdown} Answer\n")
    assert all(re.search(r"(?m)^:::\{(number|choice|order)\} ", part) for part in parts[:-1])
    questions = re.findall(r"(?m)^:::\{(?:number|choice|order)\} .*$", text)
    assert len(set(questions)) == len(questions)  # a browser keeps answers by these
    asked = set(re.findall(r"(?m)^(?::is:|is:) (\w+)$|^  (\w+) \|", text))
    cells = "".join(re.findall(r"(?ms)^```\{code-cell\} ipython3\n(.*?)^```$", text))
    calls = "\n".join(re.findall(r"(?s)answers\((.*?)\n?\)\n", cells))
    handed = set(re.findall(r"(\w+)=", calls))
    assert {"".join(pair) for pair in asked} <= handed  # by a cell of the same page


def test_only_an_answer_that_somebody_could_give_is_kept() -> None:
    answers(three=3, several=[1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        answers(nothing=float("nan"))


def used(table: symtable.SymbolTable) -> set[str]:
    """Return the global names that some code uses."""
    top = table.get_type() == "module"
    symbols = [
        one for one in table.get_symbols() if one.is_global() or (top and one.is_referenced())
    ]
    return {one.get_name() for one in symbols}.union(*map(used, table.get_children()))
