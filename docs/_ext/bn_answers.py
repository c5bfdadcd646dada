"""An experiment's page: its answer under the title, verdicts as a table, what draws folded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bn_evidence import experiment, findings, recorded, render
from bn_figures import box, classes
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial.evidence import quote

#: So many effects stand below the answer, in a line.
OTHERS = 5
#: Code that draws, judges or records: folded, unless it trains, which a reader should see.
_DRAWS = re.compile(r"\balt=|\.judge\(|\.record\(")
#: What scripts print for those who run them, and the page says elsewhere.
_ASIDES = re.compile(r"(?m)^(?:CIFAR-10: .*|The runs behind this page took .*)\n?")
_KEY = re.compile(r"(?m)^# sphinx_gallery_(?:key_figure|thumbnail_number) = (\d+)$")


def finish_experiment(app: Sphinx, doctree: nodes.document) -> None:
    """Say at the top of an experiment's page what came out; show and fold what comes below."""
    if not (group := experiment(app.env.docname)):
        return
    found = findings(app.env, group)
    for block in list(doctree.findall(nodes.literal_block)):
        if block.get("language") == "none":
            _show_output(block, found)
        elif _DRAWS.search(block.astext()) and ".train(" not in block.astext():
            _fold(block, "Show the code")
    for image in list(doctree.findall(nodes.image)):
        _entitle(image, group, found)
    title = next(doctree.findall(nodes.title))
    section, key = title.parent, _key_figure(app, doctree)
    answer = render(
        "answer.html",
        one=found[0],
        others=_others(found[1:]),
        figure=key is not None,
        more=len(found) - 1,
        seconds=f"{recorded(app.env, group)['seconds']:.0f}",
        predict=_to_predict(app.env.docname, found[0]),
    )
    first = next(i for i, node in enumerate(section) if "downloads" in classes(node))
    section.insert(first + 1, nodes.raw("", answer, format="html"))
    if key is not None:
        picture = key.deepcopy()
        picture["classes"] = ["key-figure"]
        below = next(
            i for i, n in enumerate(section) if i > first + 1 and isinstance(n, nodes.section)
        )
        section.insert(below, nodes.raw("", '<div id="the-answer"></div>', format="html"))
        section.insert(below + 1, picture)
        behind = key.parent[key.parent.index(key) :]
        links = [one for one in behind[:4] if one.astext().startswith('<p class="figure-data"')]
        meaning = [one for one in behind[:4] if "figure-meaning" in classes(one)]
        section[below + 2 : below + 2] = [one.deepcopy() for one in (*meaning, *links)]
        box(picture)


def _others(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what stands below the answer: verdicts first, then estimates."""
    told = [one for one in found if one["label"] and one["mean"] is not None]
    return sorted(told, key=lambda one: one["word"] == "estimated")[:OTHERS]


def _to_predict(page: str, one: dict[str, Any]) -> str:
    """Return, as JSON, what a reader may predict before the answer is shown, if it was measured."""
    if one["mean"] is None:
        return ""
    told = {name: one[name] for name in ("mean", "unit", "effect")}
    return json.dumps({"name": f"{one['experiment']}.{one['id']}", "page": page} | told)


def _key_figure(app: Sphinx, doctree: nodes.document) -> nodes.image | None:
    """Return the figure that the script names as its answer, or else for its card, or the first."""
    script = Path(app.srcdir, app.env.docname).with_suffix(".py")
    named = _KEY.search(script.read_text("utf-8"))
    ending = f"_{int(named[1]) if named else 1:03}.svg"
    images = doctree.findall(nodes.image)
    return next((one for one in images if one["uri"].endswith(ending)), None)


def _entitle(image: nodes.image, group: str, found: list[dict[str, Any]]) -> None:
    """Put what was found above the figure that shows it."""
    number = re.search(r"_(\d{3})\.svg$", image["uri"])
    shown = [
        (quote(f"{group}.{one['id']}.told"), one)
        for one in found
        if number and one["figure"] == int(number[1]) and one["word"] != "not judged"
    ]
    at = image.parent.index(image) - 1  # before its box
    title = nodes.raw("", render("figure-finding.html", shown=shown), format="html")
    image.parent.insert(at, title)


def _show_output(block: nodes.literal_block, found: list[dict[str, Any]]) -> None:
    """Put a table before the verdicts that a script prints, and leave out its asides."""
    text = _ASIDES.sub("", block.astext()).strip("\n")
    frame: nodes.Element = block
    while not isinstance(frame.parent, nodes.section):
        frame = frame.parent
    if not text:
        frame.parent.remove(frame)
        return
    block.rawsource, block.children = text, [nodes.Text(text)]
    if text.startswith("Claim     "):
        table = nodes.raw("", render("verdicts.html", parts=found), format="html")
        frame.parent.insert(frame.parent.index(frame), table)
        _fold(frame, "As the script prints it, with the rules")


def _fold(node: nodes.Element, summary: str) -> None:
    at = node.parent.index(node)
    begin = f'<details class="fold"><summary>{summary}</summary>'
    node.parent.insert(at + 1, nodes.raw("", "</details>", format="html"))
    node.parent.insert(at, nodes.raw("", begin, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", finish_experiment, priority=950)  # after figures and downloads
    return {"parallel_read_safe": True, "parallel_write_safe": True}
