"""What a build is made of, and for each executed page what it ran on and how long."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from bn_evidence import experiment
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial import evidence
from bn_tutorial.training.provenance import Provenance, commit_of, together
from bn_tutorial.training.store import RunStore

_RUNNING_TIME = re.compile(
    r"Total running time of the script:\s*\((\d+) minutes ([\d.]+) seconds\)"
)


#: What the latest whole build was made of. It stands for this one, too, if nothing that decides on
#: numbers or figures has changed since: then no script runs, and TensorFlow need not start.
KEPT = Path(__file__).parents[1] / "auto_examples" / ".made.json"


def here(profile: Any, data: Any) -> Provenance:
    """Return what this build is made of: for the ledger, and for the foot of each page."""
    return Provenance.here(data, profile=profile.name, commit=commit_of(Path(__file__).parent))


def fetched(order: str) -> list[str]:
    """Return what tells apart builds that use other fetched runs, or use them otherwise."""
    state = RunStore().fetched.digest() if order != "never" else ""
    return [order, state] if state else []


def kept(digest: str) -> Provenance | None:
    """Return what the latest build was made of, or None if scripts must run again."""
    try:
        found = json.loads(KEPT.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if found["digest"] != [digest, _recorded()]:
        return None
    made = Provenance(**found["made"])
    return dataclasses.replace(made, commit=commit_of(Path(__file__).parent))


def keep(app: Sphinx, exception: Exception | None) -> None:
    """Note, after a whole build, what it was made of."""
    if exception is None and app.builder.format == "html" and app.config.provenance_digest:
        digest = [app.config.provenance_digest, _recorded()]
        made = app.config.html_context["provenance"].asdict()
        KEPT.write_text(json.dumps({"digest": digest, "made": made}), "utf-8")


def _recorded() -> str:
    """Return a digest of all evidence, which might be deleted, or another build's."""
    total = hashlib.sha256()
    for file in sorted(evidence.evidence_path("any").parent.glob("*.json")):
        total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()


def count_runs(app: Sphinx) -> None:
    """Count, once all experiments have recorded theirs, the runs that were computed elsewhere."""
    found = [
        evidence.recall(experiment(path.stem))
        for path in Path(app.srcdir, "auto_examples").glob("*/plot_*.py")
    ]
    runs = {run: one for each in found for run, one in each["fetched"].items()}  # some are shared
    app.config.html_context["computed"] = {"runs": len(runs), "elsewhere": sum(runs.values())}
    made = together(Provenance(**each["provenance"]) for each in found)
    if made.fetched:
        app.config.ledger_provenance["fetched"] = made.fetched


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
        made = Provenance(**found["provenance"])
        context["made"] = dataclasses.replace(
            made, profile=context["provenance"].profile, commit=context["provenance"].commit
        )
        context["executed"] = {
            "seconds": app.env.metadata[page]["running_seconds"],
            "training": found["seconds"],
            "seeds": found["seeds"],
            **found["computed"],
            "checks_hidden": False,
        }
    elif executed:
        context["made"] = context["provenance"]
        hidden = app.env.metadata[page].get("checks_hidden", False)
        context["executed"] = {"seconds": executed["runtime"], "checks_hidden": hidden}
    if "executed" in context:
        context["body"] += app.builder.templates.render("made-with.html", context)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", count_runs, priority=900)  # after sphinx-gallery
    app.connect("doctree-read", take_running_time)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", keep, priority=900)
    app.add_config_value("provenance_digest", "", "")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
