"""Exercises that answer back: a number, a choice, an order.

Each is a form that a script brings to life. Without it the question can be read; a choice and an order
are lists, by the alphabet, so that nothing tells what is right. That is computed, if it is a number, by
the page's own cells, which hand it over with `bn_tutorial.figures.answers`.

````
:::{number} (a) $\\mu$ and $\\sigma^2$
:is: mean_and_variance
:within: 1%
:mistake: unbiased | That is divided by $m-1$.
:::

:::{choice} What becomes of the output?
- (right) Nothing.

  The mean moves with the inputs.
- (wrong) It grows.

  It would, if the deviation did not.
:::

:::{order} What comes first?
- the mean
- the variance
:::
````
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from myst_nb.core.variables import RetrievalError
from myst_nb.ext.glue.utils import retrieve_glue_data
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_MARKS = {"(right)": True, "(wrong)": False}


def tolerance(argument: str) -> dict[str, float | bool]:
    """Return how far from a number an answer may lie, and whether that is a part of the number.

    Raises
    ------
    ValueError
        If that is no distance.
    """
    text = directives.unchanged_required(argument)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    if not found:
        raise ValueError(f"write a number or a percentage, such as 1%, for {text!r}")
    return {"within": float(found[1]) / (100 if found[2] else 1), "relative": bool(found[2])}


class _Ask(SphinxDirective):
    """A question; what its kinds share."""

    required_arguments, optional_arguments, final_argument_whitespace = 1, 0, True
    kind = ""

    def form(self, inside: Sequence[nodes.Node], **told: Any) -> list[nodes.Node]:
        """Return the form of a question, with what its script must know."""
        name = f"ask-{self.env.new_serialno('ask') + 1}"
        # an answer is kept by its question, as other questions may come before it in another build
        told |= {"kind": self.kind, "name": f"{self.env.docname} {self.kind}: {self.arguments[0]}"}
        question, messages = self.state.inline_text(self.arguments[0], self.lineno)
        data = html.escape(json.dumps(told), quote=True)
        begin = (
            f'<form class="ask" id="{name}" data-ask="{data}" aria-labelledby="{name}-question">'
        )
        legend = nodes.paragraph("", "", *question, ids=[f"{name}-question"], classes=["question"])
        return [
            nodes.raw("", begin, format="html"),
            legend,
            *inside,
            *messages,
            nodes.raw("", '<div class="said" role="status"></div></form>', format="html"),
        ]


class Number(_Ask):
    """A number, or several, that a cell of the page has computed."""

    kind = "number"
    option_spec = {  # noqa: RUF012 (docutils asks for it)
        "is": directives.unchanged_required,
        "within": tolerance,
        "mistake": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        """Return the form, with the numbers."""
        try:
            right = self.kept(self.options["is"])
            pairs = [line.split("|", 1) for line in self.options.get("mistake", "").splitlines()]
            mistakes = [(self.kept(name.strip()), text.strip()) for name, text in pairs]
        except (KeyError, ValueError, RetrievalError) as error:
            raise self.error(f"a number needs :is:, what a cell has handed over: {error}") from None
        told: list[nodes.Node] = []
        for _, text in mistakes:
            shown, messages = self.state.inline_text(text, self.lineno)
            told += [nodes.paragraph("", "", *shown, classes=["reason"]), *messages]
        return self.form(
            told,
            right=right,
            mistakes=[numbers for numbers, _ in mistakes],
            **self.options.get("within", tolerance("1%")),  # a reader may leave out last digits
        )

    def kept(self, name: str) -> list[float]:
        """Return what a cell of this page has handed over."""
        data = retrieve_glue_data(self.state.document, name).data
        return [float(number) for number in str(data["text/plain"]).split()]


class Choice(_Ask):
    """One of several, each with a reason."""

    kind = "choice"
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the form, with choices and reasons."""
        found = items(self)
        right: list[nodes.list_item] = []
        for item in found:
            first = item[0]
            text = first.astext()
            mark = next((m for m in _MARKS if text.startswith(m)), None)
            if mark is None or len(item) < 2 or not isinstance(first, nodes.paragraph):
                raise self.error("a choice begins with (right) or (wrong), and a reason follows.")
            right += [item] * _MARKS[mark]
            first[0] = nodes.Text(first[0].astext().removeprefix(mark).lstrip())
            item[1:] = [nodes.container("", *item[1:], classes=["reason"])]
        if len(right) != 1:
            raise self.error("of all choices one must be (right).")
        shown = sorted(found, key=_letters)
        options = [item[0].astext() for item in shown]
        return self.form(
            [nodes.bullet_list("", *shown)], right=shown.index(right[0]), options=options
        )


class Order(_Ask):
    """Things to be put in order; they are written in the right one."""

    kind = "order"
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the form, with the things."""
        found = items(self)
        if len(found) < 3:
            raise self.error("an order needs three things or more.")
        shown = sorted(found, key=_letters)
        places = [found.index(one) for one in shown]
        return self.form([nodes.bullet_list("", *shown)], right=places)


def _letters(item: nodes.list_item) -> str:
    """Return what the alphabet needs of an item: its first line."""
    return item[0].astext().casefold()


def items(directive: SphinxDirective) -> list[nodes.list_item]:
    """Return the items of the list that a directive holds."""
    inside = nodes.container()
    directive.state.nested_parse(directive.content, directive.content_offset, inside)
    if len(inside) != 1 or not isinstance(inside[0], nodes.bullet_list):
        raise directive.error("there must be a list of things, and nothing else.")
    return [one for one in inside[0] if isinstance(one, nodes.list_item)]


def setup(app: Sphinx) -> dict[str, bool]:
    for name, directive in (("number", Number), ("choice", Choice), ("order", Order)):
        app.add_directive(name, directive)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
