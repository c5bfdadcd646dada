"""The exercises of the site: each answers back; those of the long page have a hint and a check."""

import ast
import builtins
import re
import symtable
from pathlib import Path

import pytest

from bn_tutorial.figures import answers

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "learn" / "exercises.md"
TEXT = PAGE.read_text("utf-8")
FORM = re.compile(r"(?m)^:::\{(?:number|choice|order)\} (.*)$")
ANSWER = ":::{dropdown} Answer\n"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text("utf-8")
    for folder in (DOCS, DOCS / "learn", DOCS / "practice")
    for path in sorted(folder.glob("*.md"))
}
LISTS = {
    name: found[1]
    for name, text in PAGES.items()
    if (found := re.search(r"(?ms)^## Exercises\n(.*?)(?=^## |\Z)", text))
}
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
    marks = [":::{dropdown} Hint\n", ANSWER, "```{code-cell}"]
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


@every_exercise
def test_every_part_of_an_exercise_answers_back(title: str) -> None:
    task, *_ = EXERCISES[title].partition("\n:::")
    parts = set(re.findall(r"(?m)^\((\w)\) ", task))
    forms = FORM.findall(EXERCISES[title])
    assert forms
    assert parts <= {part for form in forms for part in re.findall(r"(?:^|and )\((\w)\)", form)}


def test_the_lists_of_exercises_are_found() -> None:
    answered = {name for name, text in PAGES.items() if ANSWER in text}
    assert {*LISTS, "learn/exercises.md"} == answered
    assert {name.rpartition("/")[0] for name in LISTS} == {"", "learn", "practice"}


@pytest.mark.parametrize("page", LISTS)
def test_every_exercise_of_a_list_answers_back(page: str) -> None:
    _, *exercises = re.split(r"(?m)^(?:\*\*)?\d+\.(?:\*\*)? ", LISTS[page])
    assert exercises
    for exercise in exercises:
        task, answer, _ = exercise.partition(ANSWER)
        assert answer, task
        assert FORM.search(task), task


@pytest.mark.parametrize("page", [name for name, text in PAGES.items() if FORM.search(text)])
def test_what_is_asked_is_asked_once_and_handed_over_by_a_cell(page: str) -> None:
    text = PAGES[page]
    questions = [found[0] for found in FORM.finditer(text)]
    assert len(set(questions)) == len(questions)  # a browser keeps answers by these
    asked = set(re.findall(r"(?m)^(?::is:|is:) (\w+)$|^  (\w+) \|", text))
    cells = re.findall(r"(?ms)^```\{code-cell\} ipython3\n(?::[^\n]+\n)*([^\n].*?)^```$", text)
    calls = [
        call
        for cell in cells
        if "answers(" in cell
        for call in ast.walk(ast.parse(cell))
        if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("answers")
    ]
    handed = {word.arg: word.value for call in calls for word in call.keywords}
    assert {"".join(pair) for pair in asked} == set(handed)  # by a cell of the same page
    assert not any(map(typed, handed.values()))  # but computed


def test_only_an_answer_that_somebody_could_give_is_kept() -> None:
    answers(three=3, several=[1.0, 2.0])
    with pytest.raises(ValueError, match="must be finite"):
        answers(nothing=float("nan"))


def typed(value: ast.expr) -> bool:
    """Whether a number, or one of several, is written as it is; a calculation is not."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "np.array":
        return typed(value.args[0])
    if isinstance(value, ast.List | ast.Tuple):
        return any(map(typed, value.elts))
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def used(table: symtable.SymbolTable) -> set[str]:
    """Return the global names that some code uses."""
    top = table.get_type() == "module"
    symbols = [
        one for one in table.get_symbols() if one.is_global() or (top and one.is_referenced())
    ]
    return {one.get_name() for one in symbols}.union(*map(used, table.get_children()))
