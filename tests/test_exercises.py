"""The exercises of the site: each has a hint, an answer, and a check that runs and asserts."""

import re
import runpy
from pathlib import Path

import pytest

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
def test_the_check_runs_by_itself_and_agrees(
    title: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = CELL.findall(EXERCISES[title])
    assert re.search(r"(?m)^ *assert ", code)
    script = tmp_path / "check.py"
    script.write_text(code, "utf-8")
    runpy.run_path(str(script))
    captured = capsys.readouterr()
    assert captured.out.strip()
    assert not captured.err
