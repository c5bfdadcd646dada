"""What the experiments of this build recorded, on pages: quoted in prose, or through a template."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jinja2
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxRole

from bn_tutorial import evidence
from bn_tutorial.evidence import chances, ledger, registry
from bn_tutorial.evidence.registry import MEANINGS, SHAPES

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parents[1] / "_templates"),
    autoescape=jinja2.select_autoescape(),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.globals |= {"SHAPES": SHAPES, "MEANINGS": MEANINGS}


def experiment(doc: str) -> str:
    """Return the experiment that a page shows, if one: its script is plot_NN_<experiment>."""
    found = re.fullmatch(r"(?:.*/)?plot_\d\d_(\w+)", doc)
    return found[1].replace("_", "-") if found else ""


def recorded(env: BuildEnvironment, group: str) -> dict[str, Any]:
    """Return what an experiment recorded; the page that asks is read anew when that changes."""
    env.note_dependency(str(evidence.evidence_path(group)))
    found: dict[str, Any] = evidence.recall(group)
    return found


def findings(env: BuildEnvironment, group: str) -> list[dict[str, Any]]:
    """Return what an experiment found of its hypotheses; the first one answers its title."""
    known, found = registry.hypotheses(), recorded(env, group)
    judged = [name for name, one in found.items() if isinstance(one, dict) and "word" in one]
    return [ledger.finding(known[name]) for name in judged]


def render(template: str, **values: Any) -> str:
    """Fill in a template; HTML is escaped, Markdown is not."""
    return TEMPLATES.get_template(template).render(values)


def is_close(found: dict[str, Any]) -> bool:
    """Return whether a recorded verdict might well be another one in another build."""
    chance = found.get("repeats")
    return chance is not None and chance < chances.CLOSE


TEMPLATES.filters["is_close"] = is_close


class Evidence(SphinxRole):
    """``{evidence}`group.name:.1pp```: a recorded value in prose."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        name, _, spec = self.text.partition(":")
        self.env.note_dependency(str(evidence.evidence_path(name.partition(".")[0])))
        try:
            text = evidence.quote(name, spec)
            found = evidence.recall(re.sub(r"\.(sentence|told)$", "", name))
        except (KeyError, ValueError, TypeError) as error:
            message = self.inliner.reporter.error(
                f"no evidence {self.text!r}: {error}", line=self.lineno
            )
            return [self.inliner.problematic(self.rawtext, self.rawtext, message)], [message]
        classes = ["evidence"]
        if text in SHAPES:
            classes += ["verdict", f"verdict-{text.replace(' ', '-')}"]
        shown: list[nodes.Node] = [nodes.inline(self.rawtext, text, classes=classes)]
        quoted = text in SHAPES or name.endswith((".sentence", ".told"))
        if quoted and isinstance(found, dict) and is_close(found):
            call = nodes.inline("", "close call", classes=["close-call"])
            shown += [nodes.Text(" ("), call, nodes.Text(")")]
        return shown, []


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_role("evidence", Evidence())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
