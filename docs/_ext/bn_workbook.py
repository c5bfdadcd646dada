"""The workbook: notebooks with open functions, and the same ones solved, from one script each.

A script in ``docs/workbook/`` is a notebook that editors know how to run: its cells begin with
``# %%``, text with ``# %% [markdown]``. A cell that begins with ``# %% your turn`` holds a function
that is open in the notebook: what follows its docstring is the solution. This module needs no
Sphinx, so that the tests of the library can run the notebooks, too.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: The scripts, in their order.
SCRIPTS = sorted(Path(__file__).parents[1].glob("workbook/workbook_*.py"))
HOLE = 'raise NotImplementedError("your turn")'
_CELL = re.compile(r"(?m)^# %% ?(.*)\n")
_TEXT, _OPEN = "[markdown]", "your turn"


def cells(script: Path) -> list[tuple[str, str]]:
    """Return the cells of a script: what follows its ``# %%``, and what it holds."""
    before, *parts = _CELL.split(script.read_text("utf-8"))
    if before.strip():
        raise ValueError(f"{script.name} must begin with a cell, # %%.")
    found = []
    for mark, text in zip(parts[::2], parts[1::2], strict=True):
        if mark not in ("", _TEXT, _OPEN):
            raise ValueError(f"{script.name} has a cell '# %% {mark}': write '# %% {_OPEN}'.")
        found.append((mark, text.strip("\n")))
    return found


def opened(code: str) -> str:
    """Return a function of which nothing is left but what it is called, takes and promises."""
    one, lines = _function(code), code.splitlines()
    said = one.body[0]
    return "\n".join([*lines[: said.end_lineno], " " * said.col_offset + HOLE])


def _function(code: str) -> ast.FunctionDef:
    match ast.parse(code).body:
        case [ast.FunctionDef() as one] if ast.get_docstring(one) and one.body[1:]:
            return one
    raise ValueError(f"a cell '{_OPEN}' holds one function, with a docstring: {code!r}")


def code_cells(script: Path, *, solved: bool) -> list[str]:
    """Return the code of a notebook, cell by cell."""
    kept = [(mark, text) for mark, text in cells(script) if mark != _TEXT]
    return [opened(text) if mark == _OPEN and not solved else text for mark, text in kept]


def tasks(script: Path) -> list[str]:
    """Return the names of a script's open functions."""
    return [_function(text).name for mark, text in cells(script) if mark == _OPEN]


def notebook(
    script: Path, install: str, linked: Callable[[str], str], *, solved: bool
) -> dict[str, Any]:
    """Return a notebook as JSON has it.

    Parameters
    ----------
    script : Path
        Its script.
    install : str
        The code of its first cell.
    linked : callable
        Turns names of pages in text into links.
    solved : bool
        Whether it shows the solutions.
    """
    code = iter(code_cells(script, solved=solved))
    made = [_code(install)]
    for mark, text in cells(script):
        if mark == _TEXT:
            text = linked(re.sub(r"(?m)^# ?", "", text))
            if solved and text.startswith("# "):
                title, _, rest = text.partition("\n")
                text = f"{title} (solutions)\n\n*What is open in the notebook is written here.*\n{rest}"
            made.append({"cell_type": "markdown", "metadata": {}, "source": text})
        else:
            made.append(_code(next(code)))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 4}


def _code(text: str) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": text,
    }
