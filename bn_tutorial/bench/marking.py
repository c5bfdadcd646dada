"""Mark a reader's own function: it is right, or it is said what its mistake looks like."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Answer = tuple[Array, ...]


class NotYet(AssertionError):
    """A solution is not right yet; the message says what it looks like.

    A notebook shows the message alone: where a check stands in the library helps nobody.
    """

    def _render_traceback_(self) -> list[str]:
        return textwrap.wrap(f"Not yet: {self}", 88)


@dataclasses.dataclass(frozen=True)
class Case:
    """What a solution is given, and what it should answer.

    Parameters
    ----------
    arguments : tuple
        The arguments.
    truth : tuple of numpy.ndarray
        The right answer, found in another way than a solution would.
    """

    arguments: tuple[Any, ...]
    truth: Answer


@dataclasses.dataclass(frozen=True)
class Task:
    """A function to write.

    Parameters
    ----------
    gives : tuple of str
        What it should return, by name.
    cases : callable
        Makes the cases, by their names.
    whence : str
        Where the truth is from.
    draft : callable
        A solution with mistakes: it takes a case's arguments and, as ``wrong``, a set of names of these.
    mistakes : mapping of str to str
        What follows "what comes out if", for each mistake that the draft can make.
    ask : callable, optional
        Calls a solution with a case's arguments, and returns what it did; like the draft, it leaves them as
        they were.
    rounding : float
        So far apart, beside the largest value, two right answers may be.
    """

    gives: tuple[str, ...]
    cases: Callable[[], Mapping[str, Case]]
    whence: str
    draft: Callable[..., Answer]
    mistakes: Mapping[str, str]
    ask: Callable[..., Any] = lambda function, *arguments: function(*arguments)
    rounding: float = 1e-6


def mark(name: str, function: Callable[..., Any], task: Task) -> str:
    """Return a sentence that praises a solution.

    Parameters
    ----------
    name : str
        The task's name.
    function : callable
        The solution.
    task : Task
        The task.

    Raises
    ------
    NotYet
        If the solution is open, returns something of another kind, changes what it is given, or is wrong.
    """
    cases = task.cases()
    found = {case: _answer(name, function, task, case, one) for case, one in cases.items()}
    wrong = [
        at
        for at in range(len(task.gives))
        if not all(_close(found[case][at], one.truth[at], task) for case, one in cases.items())
    ]
    if wrong:
        raise NotYet(
            _explained(name, task, cases, wrong, found)
            or _difference(name, task, cases, wrong, found)
        )
    worst = max(
        float(np.max(np.abs(ours - truth)))
        for case, one in cases.items()
        for ours, truth in zip(found[case], one.truth, strict=True)
    )
    return f"{name} is right: at most {worst:.1g} from {task.whence}, for {' and '.join(cases)}."


def _answer(
    name: str, function: Callable[..., Any], task: Task, case: str, given: Case
) -> tuple[Any, ...]:
    """Return what a solution answers, as arrays, one for each name in ``task.gives``."""
    copies = tuple(one.copy() if isinstance(one, np.ndarray) else one for one in given.arguments)
    try:
        answer = task.ask(function, *copies)
    except NotImplementedError:
        raise NotYet(
            f"{name} is still open: write it in the cell above, run that cell, then this one again."
        ) from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        shapes = ", ".join(str(one.shape) for one in copies if isinstance(one, np.ndarray))
        error.add_note(f"This happened with {case}; the arrays that it was given: {shapes}.")
        raise
    for before, after in zip(given.arguments, copies, strict=True):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after):
            raise NotYet(f"{name} writes into an array that it was given: let it make a new one.")
    wanted = ", ".join(task.gives)
    if answer is None:
        raise NotYet(f"{name} returns nothing: its last line should return {wanted}.")
    answers = answer if isinstance(answer, (tuple, list)) else (answer,)
    if len(answers) != len(task.gives):
        raise NotYet(
            f"{name} should return {len(task.gives)} ({wanted}), and returned {len(answers)}."
        )
    return tuple(np.asarray(one, float) for one in answers)


def _close(one: Array, other: Array, task: Task) -> bool:
    """Return whether two answers are the same but for rounding."""
    if one.shape != other.shape or not np.isfinite(one).all():
        return False
    scale = max(1.0, float(np.max(np.abs(other), initial=0)))
    return bool(np.max(np.abs(one - other), initial=0) <= task.rounding * scale)


def _explained(
    name: str, task: Task, cases: Mapping[str, Case], wrong: list[int], found: Mapping[str, Answer]
) -> str:
    """Say which mistakes lead to such an answer, the fewest; nothing if it takes more than two."""
    for names in _sets(task.mistakes):
        drafts = {case: task.draft(*one.arguments, wrong=names) for case, one in cases.items()}
        for at in wrong:
            if all(_close(found[case][at], draft[at], task) for case, draft in drafts.items()):
                reasons = ", and if ".join(task.mistakes[one] for one in names)
                return f"in {name}, the {task.gives[at]} is what comes out if {reasons}."
    return ""


def _sets(names: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for size in (1, 2):
        yield from itertools.combinations(names, size)


def _difference(
    name: str, task: Task, cases: Mapping[str, Case], wrong: list[int], found: Mapping[str, Answer]
) -> str:
    """Say where an answer differs that no known mistake explains."""
    at = wrong[0]
    for case, one in cases.items():
        ours, truth = found[case][at], one.truth[at]
        if _close(ours, truth, task):
            continue
        what = f"in {name}, the {task.gives[at]} for {case}"
        if ours.shape != truth.shape:
            return f"{what} has the shape {ours.shape}, and should have {truth.shape}."
        if not np.isfinite(ours).all():
            return f"{what} has values that are not finite."
        right = [other for place, other in enumerate(task.gives) if place not in wrong]
        also = f" ({', '.join(right)}: right)" if right else ""
        off = f"{what} is off by up to {np.max(np.abs(ours - truth)):.2g}{also}"
        return f"{off}, and no usual mistake explains it: hold each line against the formula."
    raise AssertionError("nothing differs")
