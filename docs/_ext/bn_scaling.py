"""The page *Scaling out*: what was measured with and without workers, as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bn_tutorial.evidence import interval

MEASURED = "scaling/measured.json"


class Scaling(SphinxDirective):
    """``{scaling}``: where it was measured, and a row for each sweep and number of workers."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, MEASURED)
        self.env.note_dependency(str(path))
        if not path.is_file():
            return self.parse_text_to_nodes("It has not been measured yet.")
        content = json.loads(path.read_text("utf-8"))
        made = content["made"]
        versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
        intro = (
            f"Measured on {made['date']} from commit `{made['commit']}`, on a machine with "
            f"{made['cores']} cores (trained on: {made['device']}), with {versions}:"
        )
        lines = [
            intro,
            "",
            "| sweep | workers | seconds | speed-up (95 % interval) | busy cores |",
            "|---|---:|---:|---:|---:|",
            *_rows(content["measured"]),
            "",
            *(f"- {name}: `bn-tutorial train {args}`" for name, args in content["sweeps"].items()),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def _rows(measured: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the rows; a speed-up is over the command without workers in the same repetition."""
    arms: dict[tuple[str, int], dict[int, dict[str, Any]]] = {}
    for one in measured:
        arms.setdefault((one["sweep"], one["workers"]), {})[one["repetition"]] = one
    for (sweep, workers), runs in sorted(arms.items()):
        seconds = interval(run["seconds"] for run in runs.values()).mean
        busy = interval(run["cpu_seconds"] / run["seconds"] for run in runs.values()).mean
        speed_up = "–"
        if workers:
            alone = arms[sweep, 0]
            logs = (math.log(alone[at]["seconds"] / runs[at]["seconds"]) for at in runs)
            found = interval(logs)
            mean, low, high = (math.exp(value) for value in (found.mean, found.low, found.high))
            speed_up = f"×{mean:.2f} ({low:.2f} to {high:.2f}, n = {found.n})"
        yield f"| {sweep} | {workers or 'none'} | {seconds:.0f} | {speed_up} | {busy:.2f} |"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("scaling", Scaling)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
