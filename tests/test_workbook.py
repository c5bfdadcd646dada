"""The workbook: a check fails while a function is open, passes with its solution, and names mistakes."""

from __future__ import annotations

import ast
import dataclasses
import functools
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import bn_workbook
import keras
import numpy as np
import pytest

from bn_tutorial.bench import NotYet, check
from bn_tutorial.bench.marking import mark
from bn_tutorial.bench.tasks import TASKS

every_script = pytest.mark.parametrize("script", bn_workbook.SCRIPTS, ids=lambda path: path.stem)


def solution(name: str) -> str:
    """Return the solution of a task, as its script has it."""
    cells = [cell for script in bn_workbook.SCRIPTS for cell in bn_workbook.cells(script)]
    (code,) = (code for kind, code in cells if kind == "your turn" and f"def {name}(" in code)
    return code


def run(code: str, namespace: dict[str, Any]) -> None:
    exec(code, namespace)  # noqa: S102


def made(code: str, name: str) -> Callable[..., Any]:
    """Return the function of some code."""
    namespace: dict[str, Any] = {"np": np, "keras": keras, "layers": keras.layers}
    run(code, namespace)
    found: Callable[..., Any] = namespace[name]
    return found


# The notebooks


def test_every_task_stands_in_a_notebook() -> None:
    assert [one for script in bn_workbook.SCRIPTS for one in bn_workbook.tasks(script)] == [*TASKS]


@every_script
def test_checks_fail_before_and_pass_after(
    script: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    namespace: dict[str, Any] = {}
    opened, solved = (bn_workbook.code_cells(script, solved=one) for one in (False, True))
    tasks = bn_workbook.tasks(script)
    for before, after in zip(opened, solved, strict=True):
        if not before.startswith("check("):
            run(before, namespace)
        else:  # its function is still open
            task = tasks.pop(0)
            assert before == f"check({task})"
            with pytest.raises(NotYet, match=f"^{task} is still open: "):
                run(before, namespace)
            run(solution(task), namespace)
            run(after, namespace)
            assert f"{task} is right: " in capsys.readouterr().out
    assert not tasks


@every_script
def test_an_open_notebook_tells_no_solution(script: Path) -> None:
    for kind, code in bn_workbook.cells(script):
        if kind == "your turn":
            kept = bn_workbook.opened(code)
            (function,), (before,) = ast.parse(kept).body, ast.parse(code).body
            assert isinstance(function, ast.FunctionDef)
            assert isinstance(before, ast.FunctionDef)
            assert ast.get_docstring(function) == ast.get_docstring(before)
            assert ast.dump(function.args) == ast.dump(before.args)
            assert [ast.unparse(one) for one in function.body[1:]] == [
                "raise NotImplementedError('your turn')"
            ]


def test_a_notebook_installs_links_and_says_if_it_is_solved() -> None:
    script = bn_workbook.SCRIPTS[0]
    for solved in (False, True):
        found = bn_workbook.notebook(script, "%pip install it", str.upper, solved=solved)
        install, title, *rest = found["cells"]
        assert (install["cell_type"], install["source"]) == ("code", "%pip install it")
        assert title["source"].startswith("# WORKBOOK 1: FORWARD" + " (solutions)" * solved + "\n")
        code = [cell["source"] for cell in rest if cell["cell_type"] == "code"]
        assert code == bn_workbook.code_cells(script, solved=solved)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n# %%\n", "must begin with a cell"),
        ("# %% my turn\nx = 1\n", "write '# %% your turn'"),
        (
            '# %% your turn\nx = 1\n\n\ndef f():\n    """Do."""\n    return 1\n',
            "holds one function",
        ),
        ("# %% your turn\ndef f():\n    return 1\n", "with a docstring"),
    ],
)
def test_a_writer_is_told_what_is_wrong_with_a_script(
    tmp_path: Path, text: str, reason: str
) -> None:
    script = tmp_path / "script.py"
    script.write_text(text)
    with pytest.raises(ValueError, match=reason):
        bn_workbook.code_cells(script, solved=False)


# What is said of mistakes

VARIANCE, ROOT = "x.var(axes)", "np.sqrt(variance + epsilon)"
MOMENTS = "x.mean(axes), x.var(axes)"
BY_EXAMPLE = "x.mean(-1, keepdims=True), x.var(-1, keepdims=True)"
MISTAKES: list[tuple[str, Mapping[str, str], str]] = [
    ("forward", {VARIANCE: "x.var(axes, ddof=1)"}, "divided by m − 1"),
    ("forward", {ROOT: "(np.sqrt(variance) + epsilon)"}, "ε is added to the standard deviation"),
    ("forward", {ROOT: "np.sqrt(variance)"}, "ε is left out"),
    ("forward", {ROOT: "(variance + epsilon)"}, "one divides by the variance"),
    ("forward", {MOMENTS: BY_EXAMPLE}, "each example is normalised by itself"),
    ("forward", {MOMENTS: "x.mean(), x.var()"}, "one mean and one variance serve all"),
    ("forward", {"tuple(range(x.ndim - 1))": "0"}, "each pixel has a mean of its own"),
    ("forward", {"y = gamma *": "y = beta *", "+ beta": "+ gamma"}, "γ and β change places"),
    ("update", {"momentum * moving": "(1 - momentum) * moving", "(1 - momentum) * batch": "momentum * batch"}, "as PyTorch has it"),
    ("update", {"(1 - momentum) * batch": "batch"}, "with its full weight"),
    ("infer", {"- mean": "- x.mean(axes)", "variance +": "x.var(axes) +", "    return": "    axes = tuple(range(x.ndim - 1))\n    return"}, "by its own statistics"),
    ("backward", {"-0.5 * s": "-s"}, "counts twice"),
    ("backward", {"-dc.sum(axis=0)": "0"}, "the way through the mean is missing"),
    ("backward", {" + dv * 2 * c / len(x)": ""}, "the way through the variance is missing"),
    ("backward", {"(dy * x_hat)": "(dy * x)"}, "in backward, the gradient of γ is what comes out if x stands"),
    ("one_line", {".mean(": ".sum("}, "sums stand in place of means"),
    ("one_line", {"gamma * s": "s"}, "γ is left out"),
    ("one_line", {" - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0)": ""}, "the mean is missing (every input moves the mean), and if the way through the variance"),
    ("layer_forward", {"axis=1": "axis=0"}, "that is batch normalisation"),
    ("layer_backward", {"g = dy * gamma": "g = dy", "dx = s": "dx = gamma * s"}, "multiplied in at the end"),
    ("layer_backward", {"axis=0": "axis=1"}, "summed over the features"),
    ("distance", {"np.abs": ""}, "the sign is kept"),
    ("distance", {"x.var(axes)": "np.asarray(layer.moving_variance)"}, "root of the moving variance"),
    ("recalibrate", {"layer.input)": "layer.output)"}, "outputs are measured"),
    ("recalibrate", {"x.var(": "x.std("}, "the standard deviation is stored"),
    ("recalibrate", {"x.var(axis=(0, 1, 2)": "x.var(axis=(0, 1, 2), ddof=1"}, "divided by m − 1"),
    ("recalibrate", {
        "    for layer": "    old = keras.models.clone_model(model)\n    old.set_weights(model.get_weights())\n    for twin, layer",
        "in model.layers": "in zip(old.layers, model.layers)",
        "model.inputs[0], layer.input": "old.inputs[0], twin.input",
    }, "in recalibrate, the moving mean of the second layer is what comes out if the second layer"),
    ("recalibrate", {"layer.moving_mean.assign(": "(", "layer.moving_variance.assign(": "("}, "nothing is changed"),
    ("fold", {"(bias - mean) * factor": "bias - mean * factor"}, "the old bias is not scaled"),
    ("fold", {"(bias - mean) * factor": "bias * factor - mean"}, "the mean is subtracted as it is"),
    ("forward", {ROOT: "(np.sqrt(variance) + epsilon)", "y = gamma *": "y = beta *", "+ beta": "+ gamma"}, "beside the variance), and if γ and β change places"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "edits", "words"), MISTAKES)
def test_a_mistake_is_named(name: str, edits: Mapping[str, str], words: str) -> None:
    code = solution(name)
    for old, new in edits.items():
        assert old in code
        code = code.replace(old, new)
    with pytest.raises(NotYet) as found:
        check(made(code, name))
    assert words in str(found.value)


def called(function: Callable[..., Any], *given: Any) -> Any:
    return function(*given)


def test_each_mistake_that_is_known_has_its_own_words() -> None:
    for name, task in TASKS.items():
        bare = dataclasses.replace(task, ask=called, cases=functools.cache(task.cases))
        for wrong, said in task.mistakes.items():

            def answer(*given: Any, one: str = wrong, draft: Any = task.draft) -> Any:
                found = draft(*given, wrong=(one,))
                return found if len(found) > 1 else found[0]

            with pytest.raises(NotYet) as found:
                mark(name, answer, bare)
            assert f"is what comes out if {said}." in str(found.value)


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("infer", "pass", "returns nothing: its last line should return output"),
        ("forward", "return x", "should return 3 (output, mean, variance), and returned 1"),
        ("infer", "x += 1; return x", "writes into an array that it was given"),
        ("infer", "return x[:1]", "has the shape (1, 4), and should have (7, 4)"),
        ("infer", "return x / 0 * 0", "has values that are not finite"),
        ("infer", "return 2 * x", "no usual mistake explains it"),
        ("backward", "return dy, (dy * 0).sum(0), dy.sum(0)", "(gradient of β: right)"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_what_no_mistake_explains_is_told_as_well(name: str, body: str, words: str) -> None:
    head = solution(name).partition('"""')[0]
    with pytest.raises(NotYet) as found:
        check(made(head + body, name))
    assert words in str(found.value)
    assert " ".join(found.value._render_traceback_()) == f"Not yet: {found.value}"


def test_an_error_in_a_solution_says_when_it_happened() -> None:
    code = solution("forward").replace("tuple(range(x.ndim - 1))", "1")
    with pytest.raises(ValueError, match="broadcast") as found:
        check(made(code, "forward"))
    assert found.value.__notes__ == [
        "This happened with a dense layer's batch; the arrays that it was given: (7, 4), (4,), (4,)."
    ]


def test_a_function_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="has no task 'forwards': its tasks are forward, update"):
        check(made(textwrap.dedent("def forwards(): pass"), "forwards"))
