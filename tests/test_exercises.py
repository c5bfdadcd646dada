"""The exercises of the site: each has a hint, an answer, and a check that runs and asserts."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "learn" / "exercises.md"
CELL = re.compile(r"^```\{code-cell\} ipython3\n:tags: \[hide-cell\]\n(.*?)^```$", re.M | re.S)
EXERCISES = {
    title: text
    for title, text in re.findall(
        r"^### (\d+\. .+?)\n(.*?)(?=^##|\Z)", PAGE.read_text("utf-8"), re.M | re.S
    )
}
every_exercise = pytest.mark.parametrize("title", EXERCISES)


def test_the_exercises_are_numbered_and_at_least_twelve() -> None:
    numbers = [int(title.partition(".")[0]) for title in EXERCISES]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 12
    assert PAGE.read_text("utf-8").count("{code-cell}") == len(numbers)


@every_exercise
def test_task_hint_answer_and_check_come_in_this_order(title: str) -> None:
    text = EXERCISES[title]
    marks = [":::{dropdown} Hint\n", ":::{dropdown} Answer\n", "```{code-cell}"]
    assert all(text.count(mark) == 1 for mark in marks)
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert len(text[: places[0]].split()) > 10  # the task


@every_exercise
def test_the_check_runs_by_itself_and_agrees(
    title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = CELL.findall(EXERCISES[title])
    assert re.search(r"^ *assert ", code, re.M)
    exec(compile(code, title, "exec"), {"__name__": title})
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert not captured.err
