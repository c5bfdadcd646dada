"""What a build is made of, and for each executed page what it ran on and how long."""

from __future__ import annotations

import datetime
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from bn_ledger import experiment
from docutils import nodes
from sphinx.application import Sphinx

from bn_tutorial import evidence
from bn_tutorial.networks import backend

_RUNNING_TIME = re.compile(
    r"Total running time of the script:\s*\((\d+) minutes ([\d.]+) seconds\)"
)


def commit() -> str:
    """Return the commit that is built."""
    git = shutil.which("git")
    if not git:
        return "unknown commit"
    answer = subprocess.run(
        [git, "describe", "--always", "--dirty"], check=False, cwd=Path(__file__).parent, capture_output=True, text=True
    )  # fmt: skip
    return answer.stdout.strip() or "unknown commit"


def provenance(profile: Any, data: Any) -> dict[str, Any]:
    """Return what this build is made of: for the ledger, and for the foot of each page."""
    return {
        "profile": profile.name,
        "data": {"digest": data.digest, "source": data.source},
        "commit": commit(),
        "device": backend.device(),
        "versions": {"python": platform.python_version(), **backend.versions()},
        "built": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


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
        counts = {
            value["n"] for value in found.values() if isinstance(value, dict) and "n" in value
        }
        seeds = sorted(counts - {0})
        context["executed"] = {
            "seconds": app.env.metadata[page]["running_seconds"],
            "training": found["seconds"],
            "seeds": " to ".join(dict.fromkeys(map(str, (seeds[0], seeds[-1])))) if seeds else "",
        }
    elif executed:
        context["executed"] = {"seconds": executed["runtime"]}
    if "executed" in context:
        context["body"] += app.builder.templates.render("made-with.html", context)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", take_running_time)
    app.connect("html-page-context", add_to_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
