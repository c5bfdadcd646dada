"""What a build is made of, and for each executed page what it ran on and how long."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from bn_evidence import experiment
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial import evidence
from bn_tutorial.training.provenance import Provenance, commit_of

_RUNNING_TIME = re.compile(
    r"Total running time of the script:\s*\((\d+) minutes ([\d.]+) seconds\)"
)


def provenance(profile: Any, data: Any) -> Provenance:
    """Return what this build is made of: for the ledger, and for the foot of each page."""
    return Provenance.here(data, profile=profile.name, commit=commit_of(Path(__file__).parent))


def take_running_time(app: Sphinx, doctree: nodes.document) -> None:
    """Move the running time that sphinx-gallery prints below a script into the page's box."""
    for paragraph in doctree.findall(nodes.paragraph):
        if found := _RUNNING_TIME.match(paragraph.astext()):
            seconds = 60 * int(found[1]) + float(found[2])
            app.env.metadata[app.env.docname]["running_seconds"] = seconds
            paragraph.parent.remove(paragraph)
            return


def add_to_page(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Say below an executed page what it ran on, and how long."""
    executed = getattr(app.env, "nb_metadata", {}).get(page, {}).get("exec_data")
    if group := experiment(page):
        found = evidence.recall(group)
        context["executed"] = {
            "seconds": app.env.metadata[page]["running_seconds"],
            "training": found["seconds"],
            "seeds": found["seeds"],
        }
    elif executed:
        context["executed"] = {"seconds": executed["runtime"]}
    if "executed" in context:
        context["body"] += app.builder.templates.render("made-with.html", context)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", take_running_time)
    app.connect("html-page-context", add_to_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
