"""What a gallery script consists of: experiment, plotting, bookkeeping, prose, in lines.

``python tests/shapes.py`` prints a table. Every top-level statement counts as a whole: as
*bookkeeping* if it imports, makes the experiment or records it; as *plotting* if it draws or names
what only drawing needs; as *experiment* otherwise. Comments and docstrings are prose; alternative
texts are counted by themselves.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import statistics
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "gallery").glob("*/plot_*.py"))
PLOTS = (
    *("against", "batch_size_grid", "by_layer", "curves", "dots", "effects", "heatmaps"),
    *(
        "histories",
        "learning_curves",
        "lines",
        "panels",
        "ranges",
        "ratios",
        "trajectories",
        "two_scores",
    ),
)
DRAWS = re.compile(
    rf"\btrial\.({'|'.join(PLOTS)})\(|\b(plt|axes|ax|figure|figures|fig|panels?|Line2D|colorbar|"
    r"matplotlib|COLORS|SHADES|INK|set_label|mark_sample)\b"
)
KEEPS = re.compile(
    r"\bExperiment\(|\btrial\.record\(|\bprofile\(\)|\bload_cifar10\(|^record\(|\bseconds\b"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """Lines of a script, by what they are."""

    name: str
    all: int
    prose: int
    blank: int
    experiment: int
    plotting: int
    alt: int
    bookkeeping: int

    @property
    def code(self) -> int:
        return self.experiment + self.plotting + self.alt + self.bookkeeping


def shape(path: Path) -> Shape:
    """Count one script."""
    source = path.read_text("utf-8")
    lines = source.splitlines()
    blank = {number for number, line in enumerate(lines, 1) if not line.strip()}
    comments = {number for number, line in enumerate(lines, 1) if line.lstrip().startswith("#")}
    kinds = dict.fromkeys(("prose", "experiment", "plotting", "alt", "bookkeeping"), 0)
    kinds["prose"] = len(comments)
    for statement in ast.parse(source).body:
        numbers = _lines(statement) - comments - blank
        text = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        alt = {number for one in _alts(statement) for number in _lines(one)} & numbers
        kinds["alt"] += len(alt)
        kinds[_kind(statement, text)] += len(numbers - alt)
    docstring = ast.parse(source).body[0]
    blank -= _lines(docstring)
    kinds["prose"] += sum(not lines[number - 1].strip() for number in _lines(docstring))
    return Shape(path.stem, len(lines), blank=len(blank), **kinds)


def _kind(statement: ast.stmt, text: str) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return "prose"
    if isinstance(statement, (ast.Import, ast.ImportFrom)) or KEEPS.search(text):
        return "bookkeeping"
    return "plotting" if DRAWS.search(text) else "experiment"


def _alts(statement: ast.stmt) -> Iterable[ast.expr]:
    for node in ast.walk(statement):
        if isinstance(node, ast.keyword) and node.arg == "alt":
            yield node.value
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("set_label"):
            yield from node.args


def _lines(node: ast.stmt | ast.expr) -> set[int]:
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def main() -> None:
    """Print a line for each script, and the whole."""
    columns = ("all", "prose", "blank", "experiment", "plotting", "alt", "bookkeeping")
    found = [shape(path) for path in SCRIPTS]
    print(f"{'':28}" + "".join(f"{column:>12}" for column in columns))
    for one in found:
        print(f"{one.name:28}" + "".join(f"{getattr(one, column):12}" for column in columns))
    total = {column: sum(getattr(one, column) for one in found) for column in columns}
    print(f"{'together':28}" + "".join(f"{total[column]:12}" for column in columns))
    code = sum(one.code for one in found)
    print(f"experiment {total['experiment'] / code:.0%} of the code (bar 60 %)")
    print(f"prose {total['prose'] / total['all']:.0%} of all lines (bar 35 %)")
    plotting = [one.plotting for one in found]
    print(
        f"plotting: median {statistics.median(plotting):g} (bar 12), most {max(plotting)} (bar 30)"
    )
    print(f"bookkeeping: most {max(one.bookkeeping for one in found)} (bar 8)")


if __name__ == "__main__":
    main()
