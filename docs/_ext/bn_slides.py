"""Slides: the sections of a page that a lecturer shows one by one, and the plans of lectures made of them.

````
## One network, two scores

```{slide} /auto_examples/assignment/plot_02_batch_norm
:short: 5
:one: 6
:ask: Which of the two networks would you choose?
:predict:
```

```{shown} /auto_examples/assignment/plot_02_batch_norm 2
```

```{notes}
Only the lecturer sees this.
```
````

The options say how many minutes the slide gets in each plan; `predict` keeps back all but title and
question until the lecturer goes on. What a slide shows is a figure that another page has drawn.
"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any, ClassVar

import bn_figures
from bn_evidence import experiment
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger

#: The plans: what their slides are marked with, and what they are called.
PLANS = {
    "short": "The 90 minutes",
    "one": "The first of three",
    "two": "The second of three",
    "three": "The third of three",
}
MINUTES = 90  # of each
DECK = "learn/slides"
LICENCE = "Batch normalisation, by experiment · the bn_tutorial authors · CC BY 4.0"
_logger = getLogger(__name__)


class slide(nodes.Invisible, nodes.Element):
    """Where a section says that it is a slide."""


class borrowed(nodes.Element):
    """A figure that a cell of another page draws; known once all pages are read."""


class plan(nodes.Element):
    """A table of slides; known once all pages are read."""


class Deck(SphinxDirective):
    """``{deck}``: the place of the buttons with which slides are shown."""

    def run(self) -> list[nodes.Node]:
        plans = html.escape(json.dumps(PLANS), quote=True)
        ids = "".join(f'<span id="plan-{name}"></span>' for name in PLANS)
        place = f'<div class="deck" data-plans="{plans}">{ids}</div>'
        return [nodes.raw("", place, format="html")]


class Slide(SphinxDirective):
    """``{slide} /page``: makes a slide of its section; says the minutes, the page, the question."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(PLANS, directives.positive_int),
        "ask": directives.unchanged_required,
        "predict": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        minutes = {name: self.options[name] for name in PLANS if name in self.options}
        ask, predict = self.options.get("ask", "").replace("'", "’"), "predict" in self.options
        if not minutes:
            raise self.error(f"a slide needs minutes in one plan or more: {', '.join(PLANS)}.")
        if predict and not ask:
            raise self.error("a slide that lets predict needs a question, :ask:.")
        page, classes = self.arguments[0], ["slide", *(f"in-{name}" for name in minutes)]
        foot, messages = self.state.inline_text(f"{{doc}}`{page}`", self.lineno)
        line = nodes.paragraph("", "", *foot, nodes.Text(f" · {LICENCE}"), classes=["slide-foot"])
        mark = slide(page=page[1:], minutes=minutes, ask=ask)
        mark["makes"], mark["foot"] = classes + ["predict"] * predict, line
        shown = [nodes.paragraph("", ask, classes=["slide-ask"])] if ask else []
        return [mark, *shown, *messages]


class Notes(SphinxDirective):
    """``{notes}``: what the lecturer may say, and nobody else sees on the wall."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        self.assert_has_content()
        begin = '<details class="speaker"><summary>Notes for the speaker</summary>'
        inside = self.parse_content_to_nodes()
        ends = [nodes.raw("", text, format="html") for text in (begin, "</details>")]
        return [ends[0], *inside, ends[1]]


class Shown(SphinxDirective):
    """``{shown} /page 2``: the second figure of an experiment, or of a page with cells."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        page, which = self.arguments
        if not re.fullmatch(r"[1-9]\d*", which):
            raise self.error(f"{which!r} is not the number of a figure of {page}.")
        number = int(which)
        if not experiment(page):
            self.env.note_dependency(str(self.env.doc2path(page[1:])))
            return [borrowed(page=page[1:], number=number)]
        folder, name = page.rsplit("/", 1)
        uri = f"{folder[1:]}/images/sphx_glr_{name}_{number:03}.svg"
        file = Path(self.env.srcdir, uri)
        if not file.is_file():
            raise self.error(f"{page} has no figure {number}.")
        self.env.note_dependency(str(file))
        return [nodes.image(uri=f"/{uri}", alt=bn_figures.read(file)[0])]


class Plan(SphinxDirective):
    """``{plan} short``: what a lecture shows and asks, minute by minute."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        if self.arguments[0] not in PLANS:
            raise self.error(f"there is no plan {self.arguments[0]!r}: {', '.join(PLANS)}.")
        self.env.note_dependency(str(self.env.doc2path(DECK)))
        return [plan(name=self.arguments[0])]


def finish_slides(app: Sphinx, doctree: nodes.document) -> None:
    """Make slides of the sections that say so, each with a line at its foot, and note them."""
    for mark in list(doctree.findall(slide)):
        section = mark.parent
        section["classes"] += mark["makes"]
        section.append(mark["foot"])
        told = {name: mark[name] for name in ("page", "minutes", "ask")}
        title = next(section.findall(nodes.title)).astext()
        slides = app.env.metadata[app.env.docname].setdefault("slides", [])
        slides.append(told | {"title": title, "id": section["ids"][0]})
        section.remove(mark)


def complete(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Put figures of other pages and tables of slides in their places."""
    for place in list(doctree.findall(borrowed)):
        place.replace_self(_borrow(app, place, docname))
    for table in list(doctree.findall(plan)):
        table.replace_self(_table(app, table["name"], docname))


def _borrow(app: Sphinx, place: borrowed, docname: str) -> list[nodes.Node]:
    """Return a figure of another page with its box and the links below it."""
    page, number = place["page"], place["number"]
    boxes = [
        bundle
        for bundle in app.env.get_doctree(page).findall(nodes.container)
        if bundle.get("mime_type") == "image/svg+xml"
    ]
    if number > len(boxes) or page.count("/") != docname.count("/"):
        _logger.warning("%s has no figure %d to be shown here", page, number, location=docname)
        return []
    return [one.deepcopy() for one in boxes[number - 1].children]


def _table(app: Sphinx, name: str, docname: str) -> nodes.Node:
    """Return the table of a plan: when, which slide, which page behind it, what to ask."""
    slides = [one for one in app.env.metadata[DECK]["slides"] if name in one["minutes"]]
    if (total := sum(one["minutes"][name] for one in slides)) != MINUTES:
        _logger.warning("the plan %s takes %d minutes", name, total, location=docname)
    head = ["Minute", "Slide", "Page behind it", "Ask the class"]
    rows, minute = [], 0
    for one in slides:
        deck, behind = (app.builder.get_relative_uri(docname, to) for to in (DECK, one["page"]))
        target = f"{deck}#{one['id']}"
        links = [
            nodes.reference("", "", nodes.Text(text), internal=True, refuri=uri)
            for text, uri in (
                (one["title"], target),
                (app.env.titles[one["page"]].astext(), behind),
            )
        ]
        rows.append([nodes.Text(str(minute)), *links, nodes.Text(one["ask"])])
        minute += one["minutes"][name]
    table = nodes.tgroup("", *(nodes.colspec(colwidth=w) for w in (8, 30, 28, 34)), cols=4)
    table += nodes.thead("", _row([nodes.Text(text) for text in head]))
    table += nodes.tbody("", *map(_row, rows))
    return nodes.table("", table, classes=["plan"])


def _row(cells: list[nodes.Node]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_node(slide)
    for one in (Deck, Slide, Notes, Shown, Plan):
        app.add_directive(one.__name__.lower(), one)
    app.connect("doctree-read", finish_slides)
    app.connect("doctree-resolved", complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
