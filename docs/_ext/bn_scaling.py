"""The page *Scaling out*: what workers brought, as a table."""

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
    """``{scaling}``: where it was measured, and a row for each sweep and what trained it."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir, MEASURED)
        self.env.note_dependency(str(path))
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
            "| sweep | trained by | seconds | training | busy cores | speed-up (95 % interval) |",
            "|---|---|---:|---:|---:|---:|",
            *_rows(content["measured"]),
            "",
            *(f"- {name}: `bn-tutorial train {args}`" for name, args in content["sweeps"].items()),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def _rows(measured: list[dict[str, Any]]) -> Iterator[str]:
    """Yield a row for each arm; a speed-up is over another arm in the same repetition."""
    arms: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for one in measured:
        arm = one["sweep"], one["where"], one["workers"]
        arms.setdefault(arm, {})[one["repetition"]] = one
    for (sweep, where, workers), runs in sorted(arms.items(), key=_rank):
        seconds, training, busy = (
            interval(values).mean
            for values in (
                [run["seconds"] for run in runs.values()],
                [run["training_seconds"] for run in runs.values()],
                [run["cpu_seconds"] / run["seconds"] for run in runs.values()],
            )
        )
        name, base = {
            "here": ("the command itself", None),
            "processes": (f"`--workers {workers}`", (sweep, "here", 0)),
            "cluster": (
                f"{workers} Dask workers, a core each"
                if workers > 1
                else "1 Dask worker, one core",
                (sweep, "cluster", 1) if workers > 1 else None,
            ),
        }[where]
        gained = f"×{_speed_up(arms[base], runs)}" if base else "–"
        yield f"| {sweep} | {name} | {seconds:.0f} | {training:.0f} | {busy:.2f} | {gained} |"


def _rank(item: tuple[tuple[str, str, int], object]) -> tuple[bool, int, int]:
    (sweep, where, workers), _ = item
    return sweep != "dense", ("here", "processes", "cluster").index(where), workers


def _speed_up(base: dict[int, dict[str, Any]], runs: dict[int, dict[str, Any]]) -> str:
    found = interval(math.log(base[at]["seconds"] / run["seconds"]) for at, run in runs.items())
    mean, low, high = (math.exp(value) for value in (found.mean, found.low, found.high))
    return f"{mean:.2f} ({low:.2f} to {high:.2f}, n = {found.n})"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("scaling", Scaling)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
